//! What a user reads first: version, listeners, app, exporter, how calls are joined, generation, viewer. At most eight lines
//! on a terminal, one JSON event otherwise.

use std::io::IsTerminal;
use std::time::Duration;

use hopspan::config::Address;
use hopspan::sidecar::Running;
use hopspan::wrap::Child;

use super::RunArgs;
use super::view::Beside;

/// How long the app gets to accept a probing connection.
const PROBE: Duration = Duration::from_millis(200);

/// Tells, on stderr.
pub async fn tell(
    running: &Running,
    args: &RunArgs,
    child: Option<&Child>,
    viewer: Option<&Beside>,
) {
    let told = Told::gather(running, args, child, viewer).await;
    if std::io::stderr().is_terminal() {
        eprint!("{}", told.text());
        return;
    }
    for note in &told.notes {
        tracing::warn!("{note}");
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        generation = told.generation,
        config = told.config,
        inbound = told.inbound,
        app = told.app,
        outbound = told.outbound,
        exporter = told.exporter,
        joins = told.joins,
        status = told.status,
        admin = told.admin,
        viewer = told.viewer,
        "hopspan serves"
    );
}

struct Told {
    generation: u64,
    config: String,
    inbound: String,
    app: String,
    outbound: String,
    exporter: String,
    joins: String,
    status: String,
    admin: String,
    viewer: Option<String>,
    notes: Vec<String>,
}

impl Told {
    async fn gather(
        running: &Running,
        args: &RunArgs,
        child: Option<&Child>,
        viewer: Option<&Beside>,
    ) -> Told {
        let addresses = running.addresses();
        let apps = running.apps();
        let app = match child {
            Some(child) => format!("{} (pid {})", list(&apps), child.pid()),
            // Beside a running app: an idle connection would block a sync worker, so this one is closed at once.
            None => format!("{} ({})", list(&apps), answers(apps.first()).await),
        };
        let export = running.export().status();
        Told {
            generation: running.generation(),
            config: args
                .config
                .as_ref()
                .map_or_else(|| "no file".to_owned(), |path| path.display().to_string()),
            inbound: addresses.inbound.to_string(),
            app,
            outbound: match child {
                Some(_) => format!("{} (HTTP_PROXY of the command)", addresses.outbound),
                None => format!(
                    "{} (set HTTP_PROXY=http://{} for the app)",
                    addresses.outbound, addresses.outbound
                ),
            },
            exporter: format!("{} {}", export.protocol, export.endpoint),
            joins: running.joins().await,
            status: addresses.status.to_string(),
            admin: addresses.admin.to_string(),
            viewer: viewer.map(Beside::describe),
            notes: child
                .map(|child| child.notes().to_vec())
                .unwrap_or_default(),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!(
                "hopspan {}  generation {} ({})",
                env!("CARGO_PKG_VERSION"),
                self.generation,
                self.config
            ),
            format!("  inbound   {} -> app {}", self.inbound, self.app),
            format!("  outbound  {}", self.outbound),
            format!("  export    {}", self.exporter),
            format!("  joins     header, {}", self.joins),
            format!("  status    {}   admin {}", self.status, self.admin),
        ];
        lines.extend(
            self.viewer
                .iter()
                .map(|viewer| format!("  viewer    {viewer}")),
        );
        lines.extend(self.notes.iter().map(|note| format!("  note      {note}")));
        lines.join("\n") + "\n"
    }
}

fn list(addresses: &[Address]) -> String {
    addresses
        .iter()
        .map(Address::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

async fn answers(address: Option<&Address>) -> &'static str {
    let connected = match address {
        Some(Address::Tcp { host, port }) => {
            let connecting = tokio::net::TcpStream::connect((&**host, *port));
            matches!(tokio::time::timeout(PROBE, connecting).await, Ok(Ok(_)))
        }
        Some(Address::Unix(path)) => tokio::net::UnixStream::connect(path).await.is_ok(),
        None => false,
    };
    if connected {
        "answers"
    } else {
        "does not answer yet"
    }
}
