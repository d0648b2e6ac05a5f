//! The run: steps, held-out loss, metrics, checkpoints, a progress bar, and the export at its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use burn::module::{AutodiffModule, Module};
use indicatif::{ProgressBar, ProgressStyle};
use tokenizers::Tokenizer;

use crate::checkpoint::{Checkpoints, Progress, RunSettings};
use crate::corpus::{Corpus, END_OF_TEXT, Split};
use crate::data::Rows;
use crate::export;
use crate::metrics::{self, Line, Metrics};
use crate::report;
use crate::shape;
use crate::tokenizer::{self, PAD, special_id};
use crate::trainer::{Model, Trainer};

/// Documents from which merges are learnt.
const TOKENIZER_DOCUMENTS: u64 = 20_000;
/// Rows of the held-out loss along the way, and of the one on the model card.
const HELD_OUT_ROWS: usize = 32;
const FINAL_ROWS: usize = 256;

/// Where a run writes and how often.
#[derive(Debug, Clone)]
pub(crate) struct RunOptions {
    /// Metrics and checkpoints.
    pub(crate) run: PathBuf,
    pub(crate) threads: usize,
    /// Steps between lines of the log, held-out losses and checkpoints.
    pub(crate) log_every: usize,
    pub(crate) save_every: usize,
    /// Stop after this many steps, as if cut.
    pub(crate) stop_after: Option<usize>,
}

/// A run with its data.
pub(crate) struct Run {
    options: RunOptions,
    progress: Progress,
    checkpoints: Checkpoints,
    rows: Rows,
    trainer: Trainer,
}

impl Run {
    /// Takes up the run in the folder, or begins one with `settings`.
    ///
    /// # Errors
    /// A checkpoint of other settings, the file system, a refused configuration.
    pub(crate) fn open(options: RunOptions, settings: RunSettings) -> Result<Self> {
        fs::create_dir_all(&options.run)
            .with_context(|| format!("cannot create `{}`", options.run.display()))?;
        let checkpoints = Checkpoints::new(&options.run);
        let rows = rows(&options.run, &settings)?;
        let begun = checkpoints.progress()?;
        if let Some(progress) = &begun
            && progress.settings != settings
        {
            bail!(
                "`{}` holds a run of other settings: give those, or another --run folder",
                options.run.display()
            );
        }
        let model: Model = shape::fresh(&settings.config, settings.seed, &Default::default())?;
        let mut trainer = Trainer::new(model, options.threads)?;
        if begun.is_some() {
            checkpoints.load(&mut trainer)?;
        }
        let progress = begun.unwrap_or(Progress {
            settings,
            step: 0,
            seconds: 0.0,
        });
        Ok(Self {
            options,
            progress,
            checkpoints,
            rows,
            trainer,
        })
    }

    /// Trains to the last step (or `stop_after`), with a checkpoint there.
    ///
    /// # Errors
    /// The file system, the corpus, or a loss that is no number.
    pub(crate) fn train(&mut self) -> Result<()> {
        let steps = self.progress.settings.steps;
        let last = self.options.stop_after.unwrap_or(steps).min(steps);
        let held_out = self.rows.rows(Split::HeldOut, 0, HELD_OUT_ROWS)?;
        let mut metrics = Metrics::open(&self.options.run, self.progress.step)?;
        let bar = progress_bar(steps, self.progress.step)?;
        let (mut losses, mut since) = (Vec::new(), Instant::now());
        while self.progress.step < last {
            losses.push(self.step()?);
            let (done, end) = (self.progress.step, self.progress.step == last);
            bar.set_position(done as u64);
            if done.is_multiple_of(self.options.log_every) || end {
                let mut line = self.line(&losses, since.elapsed().as_secs_f64());
                if done.is_multiple_of(10 * self.options.log_every) || end {
                    line.held_out = Some(self.trainer.evaluate(&held_out)?);
                }
                metrics.write(&line)?;
                bar.set_message(line.to_string());
                (losses, since) = (Vec::new(), Instant::now());
            }
            if done.is_multiple_of(self.options.save_every) || end {
                self.checkpoints.save(&self.trainer, &self.progress)?;
            }
        }
        bar.finish();
        Ok(())
    }

    /// The next step; returns its loss.
    fn step(&mut self) -> Result<f64> {
        let settings = &self.progress.settings;
        let step = self.progress.step;
        let first = (step * settings.batch) as u64;
        let rows = self.rows.rows(Split::Train, first, settings.batch)?;
        let loss = self.trainer.step(&rows, settings.schedule().at(step))?;
        if !loss.is_finite() {
            bail!("the loss of step {step} is {loss}");
        }
        self.progress.step += 1;
        Ok(loss)
    }

    /// The log's line for the steps that took `seconds`, which count as the run's.
    fn line(&mut self, losses: &[f64], seconds: f64) -> Line {
        self.progress.seconds += seconds;
        let settings = &self.progress.settings;
        let tokens = losses.len() * settings.batch * settings.length;
        Line {
            step: self.progress.step,
            loss: losses.iter().sum::<f64>() / losses.len() as f64,
            held_out: None,
            learning_rate: settings.schedule().at(self.progress.step - 1),
            tokens_per_second: tokens as f64 / seconds,
        }
    }

    /// Writes the Hugging Face folder, the model card and the loss curve of the weights as they stand.
    ///
    /// # Errors
    /// The file system, or no metrics yet.
    pub(crate) fn export(&self, folder: &Path, curve: &Path) -> Result<()> {
        let settings = &self.progress.settings;
        let model = export::round_to_bf16(self.trainer.model.valid());
        export::write_folder(folder, &model, &settings.config, self.rows.tokenizer())?;
        let rounded = Trainer::new(Model::from_inner(model), self.options.threads)?;
        let held_out = rounded.evaluate(&self.rows.rows(Split::HeldOut, 0, FINAL_ROWS)?)?;
        let parameters = rounded.model.num_params();
        let card = report::model_card(&self.progress, parameters, held_out, FINAL_ROWS);
        export::write(folder, "README.md", card.as_bytes())?;
        report::loss_curve(
            curve,
            &metrics::read(&self.options.run)?,
            settings.batch * settings.length,
        )
    }

    pub(crate) fn model(&self) -> &Model {
        &self.trainer.model
    }

    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        self.rows.tokenizer()
    }
}

/// Corpus and tokenizer; the tokenizer is kept in the run's folder.
fn rows(run: &Path, settings: &RunSettings) -> Result<Rows> {
    let corpus = Corpus::new(settings.seed)?;
    let path = run.join("tokenizer.json");
    if !path.exists() {
        let text = tokenizer::train(&corpus, TOKENIZER_DOCUMENTS)?.to_string(false);
        export::write(
            run,
            "tokenizer.json",
            text.map_err(|error| anyhow!("{error}"))?.as_bytes(),
        )?;
    }
    let tokenizer =
        Tokenizer::from_file(&path).map_err(|error| anyhow!("`{}`: {error}", path.display()))?;
    Rows::new(corpus, tokenizer, settings.length)
}

/// The `config.json` of a run, with the ids of the run's special tokens.
pub(crate) fn config(run: &Path, seed: u64, shape: shape::Shape) -> Result<serde_json::Value> {
    fs::create_dir_all(run).with_context(|| format!("cannot create `{}`", run.display()))?;
    let settings = RunSettings {
        seed,
        steps: 0,
        batch: 0,
        length: 0,
        learning_rate: 0.0,
        warm_up: 0,
        config: serde_json::Value::Null,
    };
    let rows = rows(run, &settings)?;
    let (end, pad) = (
        special_id(rows.tokenizer(), END_OF_TEXT)?,
        special_id(rows.tokenizer(), PAD)?,
    );
    Ok(shape::config_json(shape, end, pad))
}

fn progress_bar(steps: usize, done: usize) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template(
        "{wide_bar} {pos}/{len} {msg} [{elapsed_precise} < {eta_precise}]",
    )?;
    Ok(ProgressBar::new(steps as u64)
        .with_style(style)
        .with_position(done as u64))
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use olmo2::{ForwardInput, Olmo2};

    use super::*;
    use crate::shape::Shape;

    /// A folder of this process, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("olmo2-train-demo-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            let tokenizer = tokenizer::train(&Corpus::new(7).unwrap(), 200).unwrap();
            fs::write(
                path.join("tokenizer.json"),
                tokenizer.to_string(false).unwrap(),
            )
            .unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn open(folder: &Folder, stop_after: Option<usize>) -> Result<Run> {
        let tiny = Shape {
            hidden: 32,
            intermediate: 32,
            layers: 2,
            heads: 2,
            kv_heads: 1,
        };
        let options = RunOptions {
            run: folder.0.clone(),
            threads: 2,
            log_every: 2,
            save_every: 3,
            stop_after,
        };
        let settings = RunSettings {
            seed: 7,
            steps: 6,
            batch: 4,
            length: 24,
            learning_rate: 1e-3,
            warm_up: 2,
            config: config(&folder.0, 7, tiny)?,
        };
        Run::open(options, settings)
    }

    fn exported(run: &Run, folder: &Folder) -> Vec<u8> {
        let assets = folder.0.join("assets");
        run.export(&assets, &folder.0.join("loss.svg")).unwrap();
        fs::read(assets.join("model.safetensors")).unwrap()
    }

    #[test]
    fn a_resumed_run_ends_with_the_weights_of_an_unbroken_one() {
        let (whole, broken) = (Folder::new("whole"), Folder::new("broken"));
        let mut run = open(&whole, None).unwrap();
        run.train().unwrap();
        let expected = exported(&run, &whole);

        open(&broken, Some(4)).unwrap().train().unwrap();
        let mut run = open(&broken, None).unwrap();
        assert_eq!(run.progress.step, 4);
        assert_ne!(
            exported(&run, &broken),
            expected,
            "two steps are still to come"
        );
        run.train().unwrap();
        assert_eq!(exported(&run, &broken), expected);

        let losses = |folder: &Folder| metrics::read(&folder.0).unwrap().last().unwrap().held_out;
        assert_eq!(losses(&whole), losses(&broken));
    }

    #[test]
    fn a_run_of_other_settings_is_refused() {
        let folder = Folder::new("settings");
        open(&folder, Some(1)).unwrap().train().unwrap();
        let mut other = open(&folder, None).unwrap();
        other.progress.settings.batch = 2;
        let refused = Run::open(other.options, other.progress.settings)
            .err()
            .unwrap();
        assert!(refused.to_string().contains("other settings"), "{refused}");
    }

    #[test]
    fn the_export_is_a_folder_of_the_checkpoints_names() {
        let folder = Folder::new("export");
        let mut run = open(&folder, None).unwrap();
        run.train().unwrap();
        let file = exported(&run, &folder);
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
        assert_eq!(length % 8, 0);
        // 11 tensors a layer, embedding and final norm (the head is tied), and the metadata.
        assert_eq!(header.as_object().unwrap().len(), 2 * 11 + 2 + 1);
        for (name, shape) in [
            ("model.embed_tokens.weight", vec![2048, 32]),
            ("model.layers.1.self_attn.k_proj.weight", vec![16, 32]),
            ("model.layers.0.self_attn.q_norm.weight", vec![32]),
            ("model.layers.0.post_feedforward_layernorm.weight", vec![32]),
            ("model.layers.1.mlp.down_proj.weight", vec![32, 32]),
            ("model.norm.weight", vec![32]),
        ] {
            assert_eq!(header[name]["shape"], serde_json::json!(shape), "{name}");
            assert_eq!(header[name]["dtype"], "BF16", "{name}");
        }
        let config = olmo2::Olmo2Config::from_folder(&folder.0.join("assets")).unwrap();
        assert_eq!(config.eos_token_id, vec![2046]);
        let card = fs::read_to_string(folder.0.join("assets/README.md")).unwrap();
        assert!(card.contains("nats a token"), "{card}");
        assert!(!card.contains(['{', '}']), "{card}");
        assert!(
            fs::read_to_string(folder.0.join("loss.svg"))
                .unwrap()
                .contains("held out")
        );
    }

    #[test]
    fn the_library_loads_the_export_and_agrees_with_the_trained_model() {
        let folder = Folder::new("load");
        let mut run = open(&folder, None).unwrap();
        run.train().unwrap();
        exported(&run, &folder);
        let options = olmo2::LoadOptions::default();
        let loaded: Olmo2<Flex> =
            Olmo2::load(&folder.0.join("assets"), &options, &Default::default()).unwrap();
        let trained = export::round_to_bf16(run.trainer.model.valid());
        let row = run.rows.row(Split::HeldOut, 0).unwrap();
        let [loaded, trained] = [loaded, trained].map(|model| {
            let output = model.forward(ForwardInput::ids(&row)).unwrap();
            output.logits.unwrap().into_data().to_vec::<f32>().unwrap()
        });
        for (a, b) in loaded.iter().zip(&trained) {
            assert!((a - b).abs() < 1e-3, "{a} and {b}");
        }
    }

    #[test]
    fn training_lowers_the_loss_on_rows_it_sees_again() {
        let folder = Folder::new("lower");
        let mut run = open(&folder, None).unwrap();
        let rows = run.rows.rows(Split::Train, 0, 4).unwrap();
        let before = run.trainer.evaluate(&rows).unwrap();
        // Fresh weights say almost nothing: near the uniform ln(2048) = 7.62.
        assert!((before - 7.62).abs() < 0.2, "{before}");
        for _ in 0..20 {
            run.trainer.step(&rows, 1e-2).unwrap();
        }
        let after = run.trainer.evaluate(&rows).unwrap();
        assert!(after < before - 1.0, "{before} to {after}");
    }

    #[test]
    fn threads_share_a_batch_without_changing_its_loss() {
        let folder = Folder::new("threads");
        let mut run = open(&folder, None).unwrap();
        let rows = run.rows.rows(Split::Train, 0, 4).unwrap();
        let shared = run.trainer.step(&rows, 0.0).unwrap();
        let mut alone = Trainer::new(run.trainer.model.clone(), 1).unwrap();
        let whole = alone.step(&rows, 0.0).unwrap();
        assert!((shared - whole).abs() < 1e-5, "{shared} and {whole}");
    }
}
