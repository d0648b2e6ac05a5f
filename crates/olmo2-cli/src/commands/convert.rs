//! `cargo xtask convert`: a checkpoint of the hub or of a folder into a record.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use olmo2::convert::{ConvertOptions, ConvertReport, convert};
use olmo2::hub::{DEFAULT_REVISION, Files, Hub, HubError, HubOptions, Notice, Progress, parse_id};
use olmo2::record::{ConvertEvent, ConvertProgress, StoredDtype};
use olmo2::{QuantFormat, Quantize};

/// Arguments of `cargo xtask convert`.
#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Folder of a checkpoint, or an id of the hub such as `allenai/OLMo-2-0425-1B`.
    source: String,
    /// Folder of the record; a conversion that was ended goes on there.
    #[arg(short, long)]
    out: PathBuf,
    /// Branch, tag or commit of the hub.
    #[arg(long)]
    revision: Option<String>,
    /// Type to store floats in; that of the source, if not given.
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Format to quantize matrices to, head and embedding too.
    #[arg(long, value_name = "FORMAT")]
    quantize: Option<Format>,
    /// Format of the head; a tied head has that of the embedding.
    #[arg(long, value_name = "FORMAT")]
    quantize_head: Option<Format>,
    /// Format of the embedding.
    #[arg(long, value_name = "FORMAT")]
    quantize_embedding: Option<Format>,
}

/// The names of `--quantize`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    None,
    Q8,
    Q4,
}

impl From<Format> for Option<QuantFormat> {
    fn from(format: Format) -> Self {
        match format {
            Format::None => None,
            Format::Q8 => Some(QuantFormat::Q8),
            Format::Q4 => Some(QuantFormat::Q4),
        }
    }
}

impl ConvertArgs {
    fn quantize(&self) -> Quantize {
        let layers = self.quantize.and_then(Into::into);
        Quantize {
            layers,
            head: self.quantize_head.map_or(layers, Into::into),
            embedding: self.quantize_embedding.map_or(layers, Into::into),
        }
    }
}

/// The names of `--dtype`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
    F16,
}

impl From<Dtype> for StoredDtype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
            Dtype::F16 => Self::F16,
        }
    }
}

pub(crate) fn run(args: &ConvertArgs) -> Result<()> {
    let mut options = ConvertOptions::new(source_folder(args)?, &args.out);
    options.dtype = args.dtype.map(Into::into);
    options.quantize = args.quantize();
    if options.source.as_os_str() != args.source.as_str() {
        options.label = Some(args.source.clone());
        options.revision = Some(revision(args).into());
    }
    let mut bar = Bar::new();
    let result = convert(&options, &mut bar);
    bar.0.finish_and_clear();
    let report = result.map_err(|error| match error.hint() {
        Some(hint) => anyhow!("{error}\nhint: {hint}"),
        None => anyhow!(error),
    })?;
    tell(&report, args, bar.0.elapsed());
    Ok(())
}

fn tell(report: &ConvertReport, args: &ConvertArgs, elapsed: Duration) {
    for note in &report.notes {
        eprintln!("note: {note}");
    }
    let kept = match report.parts.kept {
        0 => String::new(),
        kept => format!(", {kept} of them from an earlier run"),
    };
    eprintln!(
        "`{}`: {} parts, {}{kept}, in {}",
        args.out.display(),
        report.parts.written + report.parts.kept,
        HumanBytes(report.parts.bytes),
        HumanDuration(elapsed),
    );
}

fn revision(args: &ConvertArgs) -> &str {
    args.revision.as_deref().unwrap_or(DEFAULT_REVISION)
}

/// The folder that was named, or the one in the hub's cache, downloaded if need be.
fn source_folder(args: &ConvertArgs) -> Result<PathBuf> {
    let folder = PathBuf::from(&args.source);
    let id = match folder.is_dir() {
        true => None,
        false => parse_id(&args.source)?,
    };
    let Some(id) = id else {
        if args.revision.is_some() {
            bail!(
                "`--revision` belongs to an id of the hub, and `{}` is a folder",
                args.source
            );
        }
        return Ok(folder);
    };
    let hub = Hub::new(HubOptions::from_env()?);
    let mut bar = Bar::new();
    let fetched = hub.fetch(&id, revision(args), Files::Model, &mut bar);
    bar.0.finish_and_clear();
    fetched.map_err(|error| {
        // Perhaps a folder was meant.
        let meant = match error {
            HubError::Network { .. } | HubError::RepoNotFound { .. } => {
                format!("`{}` is no folder here, and on the hub: ", args.source)
            }
            _ => String::new(),
        };
        match error.hint() {
            Some(hint) => anyhow!("{meant}{error}\nhint: {hint}"),
            None => anyhow!("{meant}{error}"),
        }
    })
}

/// Bytes, bytes a second and time left.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let style = "{msg:16} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl ConvertProgress for Bar {
    fn event(&mut self, event: ConvertEvent<'_>) -> ControlFlow<()> {
        match event {
            ConvertEvent::Started { bytes, .. } => self.0.set_length(bytes),
            ConvertEvent::Checked { bytes } => {
                self.0.set_message("checking");
                self.0.inc(bytes);
            }
            ConvertEvent::Written { bytes } => {
                self.0.set_message("writing");
                self.0.inc(bytes);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Progress for Bar {
    fn bytes(&mut self, file: &str, done: u64, total: Option<u64>) {
        self.0.set_message(file.to_owned());
        self.0.set_length(total.unwrap_or(done));
        self.0.set_position(done);
    }

    fn notice(&mut self, notice: &Notice) {
        self.0.println(notice.to_string());
    }
}
