//! `hopspan run`: flags, file and environment to a sidecar; the viewer and the app's command beside it; signals; the order
//! of stopping; the exit code.

mod heap;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hopspan::config::Config;
use hopspan::config::otel_env::OtelEnv;
use hopspan::correlation::Loader;
use hopspan::sidecar::{ACTIVATION, Activated, ChildId, Options, Running, Sidecar};
use hopspan::telemetry::{Code, logs};
use hopspan::wrap::shim::Shim;
use hopspan::wrap::{Child, Signal, Signals, WrapOptions, descriptors};
use tokio::time::Instant;

use super::{RunArgs, start_line, view};

/// Runs until told to stop. In wrap mode the command's code is returned.
pub fn run(args: RunArgs) -> ExitCode {
    heap::keep();
    logs::init();
    // Before anything opens a descriptor.
    let activated = match Activated::take() {
        Ok(activated) => activated,
        Err(why) => return failed(&why),
    };
    let descriptors = descriptors::take();
    // Before the runtime starts its threads: they get what this one has left.
    let loader = Loader::keep(!args.command.is_empty());
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime did not start: {error}")),
    };
    let code = runtime.block_on(serve(args, loader, activated, descriptors));
    // Connections that were cut have ended their spans; nothing else is worth waiting for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    code
}

/// Two workers at most: more than a sidecar needs. TOKIO_WORKER_THREADS wins.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        builder.worker_threads(cpus.min(2));
    }
    builder.enable_all().build()
}

fn failed(why: &str) -> ExitCode {
    eprintln!("hopspan: {why}");
    ExitCode::FAILURE
}

async fn serve(
    args: RunArgs,
    loader: std::io::Result<Loader>,
    activated: Activated,
    descriptors: Option<u64>,
) -> ExitCode {
    // Before anything else, so that no signal falls between.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return failed(&format!("signals: {error}")),
    };
    let viewer = match view::beside(args.view).await {
        Ok(viewer) => viewer,
        Err(why) => return failed(&why),
    };
    let child_pid = Arc::new(OnceLock::new());
    // Removed when this function returns: the command is gone by then.
    let shim = unpack(&args);
    let options = match options(
        &args,
        loader,
        shim.is_some(),
        viewer.as_ref().map(view::Beside::endpoint),
        child_pid.clone(),
    ) {
        Ok(options) => Options {
            activated,
            ..options
        },
        Err(why) => return failed(&why),
    };
    let sidecar = match Sidecar::bind(options).await {
        Ok(sidecar) => sidecar,
        Err(error) => return failed(&error.to_string()),
    };
    let outbound = sidecar.addresses().outbound;
    let running = sidecar.start();
    tokio::spawn(heap::give_back(running.metrics().clone()));
    let child = match spawn(&args, outbound, shim.as_ref(), descriptors) {
        Ok(child) => child,
        Err((code, why)) => {
            eprintln!("hopspan: {why}");
            running.stop(Duration::ZERO).await;
            return code;
        }
    };
    if let Some(child) = &child {
        let _ = child_pid.set(child.pid());
    }
    start_line::tell(&running, &args, child.as_ref(), viewer.as_ref()).await;
    let code = until_stopped(&mut signals, &running, child.as_ref()).await;
    let code = stop(&mut signals, running, child, code).await;
    if let Some(viewer) = viewer {
        viewer.stop().await;
    }
    code
}

/// Flags win over the file; the OTEL_* environment wins over both.
fn options(
    args: &RunArgs,
    loader: std::io::Result<Loader>,
    shim: bool,
    viewer: Option<String>,
    child: Arc<OnceLock<u32>>,
) -> Result<Options, String> {
    let env = OtelEnv::read(|name| std::env::var(name).ok())
        .map_err(|errors| errors.join("\nhopspan: "))?;
    for warning in &env.warnings {
        tracing::warn!(code = %Code::OtelEnvironment, "{warning}");
    }
    let flags = Flags::from(args);
    let overlay = move |config: &mut Config| {
        flags.apply(config);
        if shim {
            config.correlation.token.get_or_insert(true);
        }
        if let Some(endpoint) = &viewer {
            config
                .export
                .endpoint
                .get_or_insert_with(|| endpoint.clone());
        }
        config.overlay(&env);
    };
    let child =
        (!args.command.is_empty()).then(|| -> ChildId { Arc::new(move || child.get().copied()) });
    Ok(Options {
        path: args.config.clone(),
        overlay: Arc::new(overlay),
        child,
        loader: loader
            .inspect_err(|error| tracing::warn!("capabilities: {error}"))
            .ok(),
        activated: Activated::default(),
    })
}

/// The settings that flags give.
struct Flags {
    app: Vec<hopspan::config::App>,
    inbound: Option<hopspan::config::Address>,
    outbound: Option<hopspan::config::Address>,
    status: Option<hopspan::config::Address>,
    admin: Option<hopspan::config::Address>,
    service: Option<String>,
}

impl From<&RunArgs> for Flags {
    fn from(args: &RunArgs) -> Flags {
        Flags {
            app: args.app.clone(),
            inbound: args.inbound.clone(),
            outbound: args.outbound.clone(),
            status: args.status.clone(),
            admin: args.admin.clone(),
            service: args.service.clone(),
        }
    }
}

impl Flags {
    fn apply(&self, config: &mut Config) {
        if !self.app.is_empty() {
            config.inbound.app = self.app.clone();
        }
        for (flag, setting) in [
            (&self.inbound, &mut config.inbound.listen),
            (&self.outbound, &mut config.outbound.listen),
            (&self.status, &mut config.status.listen),
            (&self.admin, &mut config.admin.listen),
        ] {
            if let Some(address) = flag {
                setting.clone_from(address);
            }
        }
        if let Some(service) = &self.service {
            config.service = Some(service.clone());
        }
    }
}

/// The shim for the command, if there is one that wants it. Without it the app runs all the same.
fn unpack(args: &RunArgs) -> Option<Shim> {
    if args.command.is_empty() || args.no_shim {
        return None;
    }
    match Shim::unpack() {
        Ok(shim) => Some(shim),
        Err(error) => {
            tracing::warn!(code = %Code::ShimNotUnpacked, %error, "no shim for the command: TMPDIR must name a writable folder; calls of threads and async code are not joined");
            None
        }
    }
}

fn spawn(
    args: &RunArgs,
    outbound: std::net::SocketAddr,
    shim: Option<&Shim>,
    descriptors: Option<u64>,
) -> Result<Option<Child>, (ExitCode, String)> {
    if args.command.is_empty() {
        return Ok(None);
    }
    let options = WrapOptions {
        https_proxy: args.https_proxy,
        keep_proxy: args.keep_proxy,
        extra_env: shim
            .map(|shim| shim.environment(outbound, |name| std::env::var_os(name)))
            .unwrap_or_default(),
        unset: &ACTIVATION,
        descriptors,
        ..WrapOptions::new(outbound)
    };
    match Child::spawn(&args.command, &options) {
        Ok(child) => Ok(Some(child)),
        Err(error) => Err((error.exit_code().into(), error.to_string())),
    }
}

/// Serves until a signal asks to stop or the child is gone; in the latter case its code.
async fn until_stopped(
    signals: &mut Signals,
    running: &Running,
    child: Option<&Child>,
) -> Option<ExitCode> {
    loop {
        let gone = async {
            match child {
                Some(child) => child.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            code = gone => {
                tracing::info!(exit_code = code.0, "the command has ended");
                return Some(code.into());
            }
            signal = signals.next() => match signal {
                Signal::Hangup => running.reload().await,
                signal if signal.stops() => {
                    tracing::info!(signal = signal.name(), "stopping");
                    return None;
                }
                signal => {
                    if let Some(child) = child {
                        child.signal(signal);
                    }
                }
            }
        }
    }
}

/// Inbound drains, the child gets TERM, outbound serves until it is gone, spans are flushed. A second signal: now.
async fn stop(
    signals: &mut Signals,
    running: Running,
    child: Option<Child>,
    code: Option<ExitCode>,
) -> ExitCode {
    let patience = running.drain_patience();
    let deadline = Instant::now() + patience;
    let again = async {
        loop {
            if signals.next().await.stops() {
                return;
            }
        }
    };
    let orderly = async {
        let drained = running.drain_inbound(deadline).await;
        let ended = match &child {
            Some(child) => Some(
                child
                    .terminate(deadline.saturating_duration_since(Instant::now()))
                    .await,
            ),
            None => {
                running.outlast_app(deadline).await;
                None
            }
        };
        (drained, ended, deadline)
    };
    let (drained, ended, deadline) = tokio::select! {
        done = orderly => done,
        () = again => {
            tracing::warn!("asked twice: stopping now");
            if let Some(child) = &child {
                child.kill();
            }
            (false, None, Instant::now())
        }
    };
    let stopped = running.finish(drained, deadline).await;
    tracing::info!(
        drained = stopped.drained,
        flushed = stopped.flushed,
        "stopped"
    );
    match (code, ended, child) {
        (Some(code), ..) => code,
        (None, Some(ended), _) => ended.into(),
        (None, None, Some(child)) => child.wait().await.into(),
        (None, None, None) => ExitCode::SUCCESS,
    }
}
