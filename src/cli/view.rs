//! `hopspan view`, `hopspan trace`, and the viewer beside a sidecar (`run --view`).

use std::process::ExitCode;

use hopspan::config::Address;
use hopspan::telemetry::logs;
use hopspan::view::client::{self, Which};
use hopspan::view::{ViewAddresses, ViewOptions, Viewer};
use hopspan::wrap::Signals;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{TraceArgs, ViewArgs};

/// Runs the viewer until told to stop.
pub fn view(args: &ViewArgs) -> ExitCode {
    logs::init();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime did not start: {error}")),
    };
    runtime.block_on(async {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => return failed(&format!("signals: {error}")),
        };
        let options = ViewOptions {
            grpc: args.grpc.clone(),
            http: args.http.clone(),
            page: args.page.clone(),
            ..ViewOptions::default()
        };
        let viewer = match Viewer::bind(options).await {
            Ok(viewer) => viewer,
            Err(error) => return failed(&error.to_string()),
        };
        let addresses = viewer.addresses();
        eprintln!("hopspan {} view", env!("CARGO_PKG_VERSION"));
        eprintln!(
            "  OTLP      grpc {}   http {}",
            addresses.grpc, addresses.http
        );
        eprintln!(
            "  traces    http://{}/api/traces   or: hopspan trace --last",
            addresses.page
        );
        let stop = CancellationToken::new();
        let serving = tokio::spawn(viewer.run(stop.clone()));
        while !signals.next().await.stops() {}
        stop.cancel();
        let _ = serving.await;
        ExitCode::SUCCESS
    })
}

/// Prints a trace of a running viewer.
pub fn trace(args: TraceArgs) -> ExitCode {
    let which = match (args.id, args.last) {
        (Some(id), _) => Which::Id(id),
        (None, true) => Which::Last,
        (None, false) => Which::Errors,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the runtime did not start: {error}")),
    };
    let args = client::TraceArgs {
        which,
        viewer: args.viewer,
        json: args.json,
        ascii: args.ascii,
        color: args.color.into(),
    };
    match runtime.block_on(client::run_trace(args, &mut std::io::stdout().lock())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(why: &str) -> ExitCode {
    eprintln!("hopspan: {why}");
    ExitCode::FAILURE
}

/// A viewer that a sidecar exports to: one in this process, or one that already runs on this host.
pub struct Beside {
    addresses: ViewAddresses,
    own: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Beside {
    /// Its OTLP/HTTP endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addresses.http)
    }

    /// For the start line.
    pub fn describe(&self) -> String {
        let page = format!("http://{}", self.addresses.page);
        match self.own {
            Some(_) => page,
            None => format!("{page} (another hopspan's, which already runs here)"),
        }
    }

    /// Ends the viewer of this process.
    pub async fn stop(self) {
        if let Some((stop, serving)) = self.own {
            stop.cancel();
            let _ = serving.await;
        }
    }
}

/// The viewer of `run --view`. A second one on a host uses the first.
pub async fn beside(wanted: bool) -> Result<Option<Beside>, String> {
    if !wanted {
        return Ok(None);
    }
    let options = ViewOptions::default();
    let page = options.page.clone();
    match Viewer::bind(options).await {
        Ok(viewer) => {
            let addresses = viewer.addresses();
            let stop = CancellationToken::new();
            let serving = tokio::spawn(viewer.run(stop.clone()));
            Ok(Some(Beside {
                addresses,
                own: Some((stop, serving)),
            }))
        }
        Err(error) => match running(&page).await {
            Some(addresses) => Ok(Some(Beside {
                addresses,
                own: None,
            })),
            None => Err(error.to_string()),
        },
    }
}

/// The addresses of a viewer that already answers at `page`.
async fn running(page: &Address) -> Option<ViewAddresses> {
    client::addresses(page).await.ok()
}
