//! Finds the facts: asks the running sidecar, or looks at the host where there is none. Everything has a time limit, and
//! all of it together stays below two seconds, unless it was given more.

use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::facts::{Answer, App, Collector, Counts, Door, Facts, Settings, Sidecar, texts};
use super::{Options, host};
use crate::admin::client::{self, Unanswered};
use crate::config::{Address, Config, Export, Source};
use crate::correlation::server::Place;
use crate::correlation::survey::Survey;
use crate::correlation::{self, Correlator};
use crate::export::{self, Reach};
use crate::routing;
use crate::telemetry::Metrics;

/// For each page of the sidecar; they are asked for at once.
const PAGES: Duration = Duration::from_millis(800);
/// For the app and the collector, at once.
const PROBE: Duration = Duration::from_millis(500);
/// For the thread rung to be loaded, where no sidecar has done so.
const LOAD: Duration = Duration::from_millis(600);
/// All of it, the looking into `/proc` included.
const IN_ALL: Duration = Duration::from_millis(2000);
const _: () =
    assert!(PAGES.as_millis() + LOAD.as_millis() + PROBE.as_millis() < IN_ALL.as_millis());
/// Between two looks of [`until_there`].
const PAUSE: Duration = Duration::from_millis(200);

/// How long each that is asked may take.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// See [`PAGES`].
    pages: Duration,
    /// See [`PROBE`].
    probe: Duration,
    /// See [`LOAD`].
    load: Duration,
}

impl Limits {
    /// All the same where somebody says how long.
    pub(super) fn of(options: &Options) -> Limits {
        Limits {
            pages: options.timeout.unwrap_or(PAGES),
            probe: options.timeout.unwrap_or(PROBE),
            load: options.timeout.unwrap_or(LOAD),
        }
    }
}

/// The config that a sidecar would start with, and what is wrong with the file.
pub(super) fn config(options: &Options) -> (Config, Option<String>) {
    let laid_over = |mut config: Config| {
        (options.overlay)(&mut config);
        config
    };
    let Some(path) = &options.config else {
        return (laid_over(Config::default()), None);
    };
    let loaded = Source::read(path).and_then(|source| routing::load(&source, &*options.overlay, 1));
    match loaded {
        Ok((config, _)) => (config, None),
        Err(errors) => {
            let first = errors.0.first().map(|error| error.one_line());
            let more = match errors.0.len() {
                0 | 1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            let config = laid_over(Config::default());
            (config, Some(first.unwrap_or_default() + &more))
        }
    }
}

/// Waits for the sidecar to be ready and for its app, `patience` at most.
pub(super) async fn until_there(admin: &Address, limits: Limits, patience: Duration) {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let limit = limits.pages.min(deadline - Instant::now());
        let ready = client::ask(Method::GET, admin, "/readyz", limit).await;
        if ready.is_ok_and(|(status, _)| status == StatusCode::OK) {
            let config: Option<Value> = page(admin, "/config", limit).await.ok().flatten();
            let apps = config.map(|config| apps(&config)).unwrap_or_default();
            if door(apps.first(), limits.probe).await == Door::Open {
                return;
            }
        }
        tokio::time::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

/// Everything, of the sidecar that answers at `admin`, else of this host.
pub(super) async fn gather(
    options: &Options,
    config: Config,
    wrong: Option<String>,
    admin: &Address,
) -> Facts {
    let expected = options.admin.is_some() || !options.wait.is_zero();
    let limits = Limits::of(options);
    let (answer, pages) = ask(admin, limits.pages).await;
    let mut sidecar = Sidecar {
        admin: admin.to_string(),
        expected,
        answer,
        ..Sidecar::default()
    };
    let written = match &pages.config {
        Some(running) => {
            sidecar.read(running, &pages);
            running.get("config").cloned().unwrap_or_default()
        }
        None => config.to_json(),
    };
    let apps = apps(&serde_json::json!({ "config": written }));
    let (door, survey, collector) = tokio::join!(
        door(apps.first(), limits.probe),
        survey(&config, &apps, &pages, limits),
        collector(&config, &written, &pages, limits.probe),
    );
    Facts {
        app: App {
            address: apps.first().map(Address::to_string).unwrap_or_default(),
            expected: pages.config.is_some() || options.app.is_some() || options.config.is_some(),
            door,
        },
        settings: Settings {
            file: options
                .config
                .as_ref()
                .map(|path| (path.display().to_string(), wrong)),
            environment: options.environment.clone(),
            sub_path: options
                .config
                .as_ref()
                .is_some_and(|path| host::is_sub_path(Path::new("/"), path)),
            ..Settings::read(&written)
        },
        sidecar,
        survey,
        collector,
        host: host::look(Path::new("/")),
    }
}

/// What the sidecar's pages said; absent is what did not come or could not be read.
#[derive(Default)]
struct Pages {
    ready: Option<(StatusCode, String)>,
    config: Option<Value>,
    correlation: Option<Survey>,
    export: Option<super::facts::Books>,
    metrics: String,
}

async fn ask(admin: &Address, limit: Duration) -> (Answer, Pages) {
    let get = |path| client::ask(Method::GET, admin, path, limit);
    let (ready, config, correlation, export, metrics) = tokio::join!(
        get("/readyz"),
        page(admin, "/config", limit),
        page(admin, "/correlation", limit),
        page(admin, "/export", limit),
        get("/metrics"),
    );
    let answer = match (&ready, &config) {
        (Err(Unanswered::TimedOut(_)), _) | (_, Err(Unanswered::TimedOut(_))) => Answer::TimedOut,
        (Ok(_), Ok(Some(_))) => Answer::Whole,
        // Nobody, or a program that is no sidecar.
        _ => Answer::Silent,
    };
    if answer != Answer::Whole {
        return (answer, Pages::default());
    }
    let pages = Pages {
        ready: ready.ok(),
        config: config.ok().flatten(),
        correlation: correlation.ok().flatten(),
        export: export.ok().flatten(),
        metrics: metrics.map(|(_, text)| text).unwrap_or_default(),
    };
    (answer, pages)
}

/// A page as JSON; `None` where it is something else.
async fn page<T: DeserializeOwned>(
    admin: &Address,
    path: &str,
    limit: Duration,
) -> Result<Option<T>, Unanswered> {
    let (status, text) = client::ask(Method::GET, admin, path, limit).await?;
    Ok(status
        .is_success()
        .then(|| serde_json::from_str(&text).ok())
        .flatten())
}

impl Sidecar {
    fn read(&mut self, config: &Value, pages: &Pages) {
        self.generation = config
            .get("generation")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        self.reload_error = config
            .get("last_error")
            .and_then(Value::as_str)
            .map(str::to_owned);
        self.needs_restart = texts(config.get("needs_restart"));
        let refused = |(status, why): &(StatusCode, String)| {
            (*status != StatusCode::OK).then(|| why.trim().to_owned())
        };
        self.not_ready = pages.ready.as_ref().and_then(refused);
        self.counts = counts(&pages.metrics);
    }
}

/// From the OpenMetrics text.
fn counts(metrics: &str) -> Counts {
    let mut counts = Counts::default();
    for line in metrics.lines() {
        let Some((name, value)) = line
            .split(" # ")
            .next()
            .and_then(|sample| sample.rsplit_once(' '))
        else {
            continue;
        };
        let Ok(value) = value.parse::<f64>() else {
            continue;
        };
        let value = value as u64;
        if name.starts_with("http_server_request_duration_seconds_count") {
            counts.requests += value;
        }
        if let Some(labels) = name.strip_prefix("hopspan_context_malformed_total{reason=\"") {
            let reason = labels.split('"').next().unwrap_or_default();
            if value > 0 {
                counts.malformed.insert(reason.to_owned(), value);
            }
        }
    }
    counts
}

/// The app's addresses, of a document as `/config` gives it.
fn apps(config: &Value) -> Vec<Address> {
    let apps = texts(config.pointer("/config/inbound/app"));
    apps.iter().filter_map(|app| app.parse().ok()).collect()
}

async fn door(app: Option<&Address>, patience: Duration) -> Door {
    // An idle connection would block a sync worker, so it is closed at once.
    let connecting = async {
        match app {
            Some(Address::Tcp { host, port }) => {
                let mut addresses = match tokio::net::lookup_host((&**host, *port)).await {
                    Ok(addresses) => addresses.peekable(),
                    Err(error) => return Door::Nameless(error.to_string()),
                };
                if addresses.peek().is_none() {
                    return Door::Nameless("it has no address".to_owned());
                }
                for address in addresses {
                    if tokio::net::TcpStream::connect(address).await.is_ok() {
                        return Door::Open;
                    }
                }
                Door::Refused
            }
            Some(Address::Unix(path)) => match tokio::net::UnixStream::connect(path).await {
                Ok(_) => Door::Open,
                Err(_) => Door::Refused,
            },
            None => Door::Refused,
        }
    };
    tokio::time::timeout(patience, connecting)
        .await
        .unwrap_or(Door::TimedOut)
}

/// The sidecar's own, else what this process may do.
async fn survey(
    config: &Config,
    apps: &[Address],
    pages: &Pages,
    limits: Limits,
) -> Option<Survey> {
    if pages.config.is_some() {
        return pages.correlation.clone();
    }
    let options = correlation::Options {
        tokens: config.correlation.token.unwrap_or(false),
        thread: config.correlation.thread,
        serial: config.correlation.serial,
        ..correlation::Options::default()
    };
    let correlator = Correlator::new(Metrics::new(), options);
    let _ = tokio::time::timeout(limits.load, correlator.settled()).await;
    let mut places = Vec::new();
    for app in apps {
        match app {
            Address::Tcp { host, port } => {
                let looking = tokio::net::lookup_host((&**host, *port));
                let found = tokio::time::timeout(limits.probe, looking).await;
                places.extend(
                    found
                        .ok()
                        .and_then(Result::ok)
                        .into_iter()
                        .flatten()
                        .map(Place::Tcp),
                );
            }
            Address::Unix(path) => places.push(Place::Unix(path.to_path_buf())),
        }
    }
    let looked = tokio::task::spawn_blocking(move || correlator.survey(&places)).await;
    looked.ok()
}

/// The sidecar's books; a probe where they are empty or there are none.
async fn collector(config: &Config, written: &Value, pages: &Pages, limit: Duration) -> Collector {
    let Some(books) = pages.export.clone() else {
        let reach = export::try_out(&config.export, limit).await;
        return Collector {
            endpoint: export::endpoint(&config.export),
            books: None,
            reach: Some(reach),
        };
    };
    let silent = !books.failing && books.last_success_at.is_none();
    let mut reach = None;
    if silent {
        // Headers are masked here, so it is only connected to.
        let settings = written.get("export").cloned().unwrap_or_default();
        reach = match serde_json::from_value::<Export>(settings) {
            _ if books.endpoint == "none" => Some(Reach::Disabled),
            Ok(settings) => Some(export::reach(&settings, limit).await),
            Err(_) => None,
        };
    }
    Collector {
        endpoint: books.endpoint.clone(),
        books: Some(books),
        reach,
    }
}

#[cfg(test)]
mod tests;
