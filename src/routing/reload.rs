//! Hot reload: watches the config file, and the certificates that it names, by their content, and swaps the snapshot or
//! keeps the last good one whole.
//!
//! The path is resolved anew at each look, so an in-place write, a rename, a swapped `..data` link (Kubernetes) and a
//! file that is deleted and made again are all seen; inotify is not used since it misses some of these and runs out of
//! watches. Settings that cannot change are left as they run, and named.

mod files;
mod report;
mod settled;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use files::{Content, Files};
pub use report::{ReloadStatus, Reloaded};
use settled::settled;

use super::{Snapshot, Table, load};
use crate::config::{Config, ConfigErrors, Source};
use crate::telemetry::Code;
use crate::telemetry::metrics::Metrics;

/// Between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Lays flags and environment over a config that was read from the file.
pub type Overlay = Box<dyn Fn(&mut Config) + Send + Sync>;

/// Takes new configs into the table, or refuses them.
pub struct Reloader {
    path: Option<PathBuf>,
    table: Arc<Table>,
    metrics: Arc<Metrics>,
    overlay: Overlay,
    every: Duration,
    /// Held from reading the file to judging it, so that no stale content is judged after a newer one.
    reading: Mutex<()>,
    state: Mutex<State>,
    looks: watch::Sender<u64>,
}

struct State {
    /// What hopspan was started with: the measure of what needs a restart.
    running: Config,
    in_use: Config,
    /// The content in use.
    taken: Option<Content>,
    /// The content that was last taken or refused.
    judged: Option<Content>,
    gone: bool,
    status: ReloadStatus,
}

impl Reloader {
    /// A reloader for a table that holds the snapshot of `running`, which is the file with flags and environment laid
    /// over it. Without a path there is nothing to reload.
    pub fn new(
        path: Option<PathBuf>,
        table: Arc<Table>,
        metrics: Arc<Metrics>,
        running: Config,
        overlay: impl Fn(&mut Config) + Send + Sync + 'static,
    ) -> Reloader {
        let generation = table.load().generation;
        let reloader = Reloader {
            path,
            table,
            metrics,
            overlay: Box::new(overlay),
            every: LOOK_EVERY,
            reading: Mutex::new(()),
            state: Mutex::new(State {
                in_use: running.clone(),
                running,
                taken: None,
                judged: None,
                gone: false,
                status: ReloadStatus {
                    generation,
                    last_error: None,
                    needs_restart: Vec::new(),
                    loaded_at: SystemTime::now(),
                },
            }),
            looks: watch::Sender::new(0),
        };
        report::count(&reloader.metrics, &reloader.state().status, true);
        reloader
    }

    /// Loads the file for the first time (or the defaults, without one) and makes table and reloader from it.
    ///
    /// # Errors
    /// Every mistake in the file, or that it cannot be read.
    pub fn start(
        path: Option<PathBuf>,
        metrics: Arc<Metrics>,
        overlay: impl Fn(&mut Config) + Send + Sync + 'static,
    ) -> Result<Reloader, ConfigErrors> {
        let content = path.as_deref().map(Source::read).transpose()?;
        let source = content
            .clone()
            .unwrap_or_else(|| Source::new("command line", ""));
        let overlay: Overlay = Box::new(overlay);
        let named = Files::named_by(&source, &overlay);
        let (config, snapshot) = load(&source, &overlay, 1)?;
        let table = Arc::new(Table::new(snapshot));
        let reloader = Reloader::new(path, table, metrics, config, overlay);
        let content = content.map(|source| Content {
            file: source.text.into_bytes(),
            named,
        });
        reloader.state().taken.clone_from(&content);
        reloader.state().judged = content;
        Ok(reloader)
    }

    /// The same with another time between looks, for tests.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Reloader {
        self.every = interval;
        self
    }

    /// The table that is kept up to date.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }

    /// Reads the file now (SIGHUP, `POST /reload`). An unchanged file is no new generation. Blocks for the reading and
    /// compiling, some tens of milliseconds.
    ///
    /// # Errors
    /// Why the file was refused; the last good config stays in use.
    pub fn reload(&self) -> Result<Reloaded, ConfigErrors> {
        let Some(path) = &self.path else {
            return Err(ConfigErrors::whole_file(
                "hopspan",
                "there is no config file to reload".to_owned(),
                Some("start with --config hopspan.yaml"),
            ));
        };
        let _reading = self.reading();
        let judged = match settled(path) {
            Ok(Some(content)) => self.judge(path, content),
            Ok(None) => Err(ConfigErrors::whole_file(
                &path.display().to_string(),
                "it is empty, or still being written".to_owned(),
                Some("write `{}` for a config of defaults, and reload again"),
            )),
            Err(error) => Err(Source::unreadable(path, &error)),
        };
        self.looks.send_modify(|looks| *looks += 1);
        judged
    }

    /// Looks at the file every second until `stop`, and takes what changed.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        if self.path.is_none() {
            return;
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.every) => {}
            }
            let reloader = Arc::clone(&self);
            // A panic in there is logged by the hook; the next look begins afresh.
            let _ = tokio::task::spawn_blocking(move || reloader.look()).await;
        }
    }

    /// One look at the file.
    fn look(&self) {
        let Some(path) = &self.path else { return };
        let _reading = self.reading();
        let content = std::fs::read(path);
        let judged = self.state().judged.clone();
        let known = match (&content, &judged) {
            (Ok(now), Some(judged)) => *now == judged.file && !judged.named.changed(),
            _ => false,
        };
        if known {
            self.state().gone = false;
        } else {
            match settled(path) {
                Ok(Some(content)) => {
                    self.state().gone = false;
                    // Refused: judge has logged it.
                    let _ = self.judge(path, content);
                }
                Ok(None) => return, // the next look sees what it has become
                Err(error) => self.miss(path, &error),
            }
        }
        self.looks.send_modify(|looks| *looks += 1);
    }

    fn miss(&self, path: &Path, error: &std::io::Error) {
        let mut state = self.state();
        if !state.gone {
            state.gone = true;
            tracing::warn!(
                code = %Code::ReloadRefused,
                generation = state.status.generation,
                "cannot read {}: {error}; the config in use stays",
                path.display()
            );
        }
    }

    /// Takes or refuses a content. That of the generation in use is nothing new.
    fn judge(&self, path: &Path, file: Vec<u8>) -> Result<Reloaded, ConfigErrors> {
        let source = Source::from_bytes(path, file.clone());
        let named = match &source {
            Ok(source) => Files::named_by(source, &self.overlay),
            Err(_) => Files::default(),
        };
        let content = Content { file, named };
        let mut state = self.state();
        let from = state.status.generation;
        let known = state.judged.as_ref() == Some(&content);
        state.judged = Some(content.clone());
        if state.taken.as_ref() == Some(&content) {
            return Ok(self.stay(&mut state));
        }
        let loaded = source.and_then(|source| load(&source, &self.overlay, from + 1));
        match loaded {
            Ok((wanted, snapshot)) => {
                let started_with = state.taken.is_none() && wanted == state.running;
                state.taken = Some(content);
                if started_with {
                    return Ok(self.stay(&mut state));
                }
                Ok(self.take(&mut state, wanted, snapshot))
            }
            Err(errors) => {
                self.refuse(&mut state, &errors, known);
                Err(errors)
            }
        }
    }

    /// The file says what is in use (again).
    fn stay(&self, state: &mut State) -> Reloaded {
        let generation = state.status.generation;
        match state.status.last_error.take() {
            Some(_) => tracing::info!(generation, "the config file is again the one in use"),
            None => tracing::info!(generation, "the config file has not changed"),
        }
        report::count(&self.metrics, &state.status, true);
        Reloaded {
            from: state.status.generation,
            to: state.status.generation,
            needs_restart: state.status.needs_restart.clone(),
        }
    }

    fn take(&self, state: &mut State, wanted: Config, snapshot: Snapshot) -> Reloaded {
        let reloaded = Reloaded {
            from: state.status.generation,
            to: snapshot.generation,
            needs_restart: wanted.needs_restart(&state.running),
        };
        let mut in_use = wanted;
        in_use.keep_cold(&state.running);
        state.in_use = in_use;
        state.status = ReloadStatus {
            generation: reloaded.to,
            last_error: None,
            needs_restart: reloaded.needs_restart.clone(),
            loaded_at: SystemTime::now(),
        };
        self.table.store(snapshot);
        report::count(&self.metrics, &state.status, true);
        tracing::info!(
            generation = reloaded.to,
            "config reloaded: generation {} -> {}",
            reloaded.from,
            reloaded.to
        );
        if !reloaded.needs_restart.is_empty() {
            tracing::warn!(
                code = %Code::NeedsRestart,
                generation = reloaded.to,
                "changed in the file but in use only after a restart: {}",
                reloaded.needs_restart.join(", ")
            );
        }
        reloaded
    }

    fn refuse(&self, state: &mut State, errors: &ConfigErrors, known: bool) {
        state.status.last_error = Some(errors.to_string());
        report::count(&self.metrics, &state.status, false);
        if known {
            return; // said already
        }
        report::log_refusal(state.status.generation, errors);
    }

    /// How the config stands.
    pub fn status(&self) -> ReloadStatus {
        self.state().status.clone()
    }

    /// The config in use: that of the file, with what needs a restart as it runs.
    pub fn config_in_use(&self) -> Config {
        self.state().in_use.clone()
    }

    /// Counts looks at the file that came to an end, for tests that wait for one.
    pub fn looks(&self) -> watch::Receiver<u64> {
        self.looks.subscribe()
    }

    fn reading(&self) -> MutexGuard<'_, ()> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // State is replaced field by field without a chance to panic in between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
