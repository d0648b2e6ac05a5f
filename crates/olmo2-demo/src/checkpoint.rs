//! Checkpoints: model, optimizer and step in one folder that is replaced by a rename.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::optim::Optimizer;
use burn::record::{FullPrecisionSettings, NamedMpkFileRecorder, Recorder};
use serde::{Deserialize, Serialize};

use crate::optimizer::Schedule;
use crate::trainer::{Train, Trainer};

type FileRecorder = NamedMpkFileRecorder<FullPrecisionSettings>;

/// What a run must agree on to be resumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunSettings {
    pub(crate) seed: u64,
    pub(crate) steps: usize,
    pub(crate) batch: usize,
    pub(crate) length: usize,
    pub(crate) learning_rate: f64,
    pub(crate) warm_up: usize,
    /// The model's `config.json`.
    pub(crate) config: serde_json::Value,
}

impl RunSettings {
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule {
            peak: self.learning_rate,
            warm_up: self.warm_up,
            steps: self.steps,
        }
    }
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) settings: RunSettings,
    /// Steps done.
    pub(crate) step: usize,
    /// Seconds spent on them.
    pub(crate) seconds: f64,
}

/// The folder of a run's checkpoints.
#[derive(Debug, Clone)]
pub(crate) struct Checkpoints {
    run: PathBuf,
}

impl Checkpoints {
    pub(crate) fn new(run: &Path) -> Self {
        Self {
            run: run.to_owned(),
        }
    }

    fn current(&self) -> PathBuf {
        self.run.join("checkpoint")
    }

    fn previous(&self) -> PathBuf {
        self.run.join("checkpoint.old")
    }

    /// Writes beside the last checkpoint, then takes its place: a cut at any moment leaves one whole.
    ///
    /// # Errors
    /// The file system.
    pub(crate) fn save(&self, trainer: &Trainer, progress: &Progress) -> Result<()> {
        let new = self.run.join("checkpoint.new");
        remove(&new)?;
        fs::create_dir_all(&new).with_context(|| format!("cannot create `{}`", new.display()))?;
        let recorder = FileRecorder::new();
        let record = trainer.model.clone().into_record();
        Recorder::<Train>::record(&recorder, record, new.join("model"))?;
        Recorder::<Train>::record(
            &recorder,
            trainer.optimizer.to_record(),
            new.join("optimizer"),
        )?;
        fs::write(
            new.join("progress.json"),
            serde_json::to_string_pretty(progress)?,
        )?;
        remove(&self.previous())?;
        if self.current().exists() {
            fs::rename(self.current(), self.previous())?;
        }
        fs::rename(&new, self.current())?;
        Ok(())
    }

    /// Where the last checkpoint stands; none in a fresh folder.
    ///
    /// # Errors
    /// A checkpoint that cannot be read.
    pub(crate) fn progress(&self) -> Result<Option<Progress>> {
        let Some(folder) = self.found() else {
            return Ok(None);
        };
        let path = folder.join("progress.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(Some(serde_json::from_str(&text)?))
    }

    /// Puts weights and optimizer state of the last checkpoint into the trainer.
    ///
    /// # Errors
    /// No checkpoint, or one that does not fit.
    pub(crate) fn load(&self, trainer: &mut Trainer) -> Result<()> {
        let Some(folder) = self.found() else {
            bail!("no checkpoint in `{}`", self.run.display())
        };
        let (recorder, device) = (FileRecorder::new(), trainer.model.device());
        let record = Recorder::<Train>::load(&recorder, folder.join("model"), &device)?;
        trainer.model = trainer.model.clone().load_record(record);
        let record = Recorder::<Train>::load(&recorder, folder.join("optimizer"), &device)?;
        trainer.optimizer = trainer.optimizer.clone().load_record(record);
        Ok(())
    }

    fn found(&self) -> Option<PathBuf> {
        [self.current(), self.previous()]
            .into_iter()
            .find(|folder| folder.join("progress.json").exists())
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}
