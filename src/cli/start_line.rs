//! What a user reads first: version, listeners, app, exporter, how calls are joined, generation, viewer. At most eight lines
//! on a terminal, one JSON event otherwise.

use std::io::IsTerminal;
use std::time::Duration;

use hopspan::config::Address;
use hopspan::correlation::server::ServerKind;
use hopspan::correlation::survey::Survey;
use hopspan::export::Reach;
use hopspan::sidecar::Running;
use hopspan::telemetry::Code;
use hopspan::wrap::Child;

use super::RunArgs;
use super::view::Beside;

/// How long the app and the collector get to accept a probing connection.
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
        next = told.next.as_ref().map(|(_, why)| why),
        code = told.next.as_ref().map(|(code, _)| code.as_str()),
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
    /// What would raise it: a code and what is missing.
    next: Option<(Code, String)>,
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
        let (answer, collector, survey) = tokio::join!(
            answers(apps.first().filter(|_| child.is_none())),
            running.collector(PROBE),
            running.survey(),
        );
        let app = match child {
            Some(child) => format!("{} (pid {})", list(&apps), child.pid()),
            // Beside a running app: an idle connection would block a sync worker, so this one was closed at once.
            None => format!("{} ({answer}{})", list(&apps), server(&survey)),
        };
        let export = running.export().status();
        let redirected: String = addresses
            .transparent
            .iter()
            .map(|address| format!(", redirected to {address}"))
            .collect();
        Told {
            generation: running.generation(),
            config: args
                .config
                .as_ref()
                .map_or_else(|| "no file".to_owned(), |path| path.display().to_string()),
            inbound: addresses.inbound.to_string(),
            app,
            outbound: match child {
                Some(_) => format!(
                    "{} (HTTP_PROXY of the command{redirected})",
                    addresses.outbound
                ),
                None => format!(
                    "{} (set HTTP_PROXY=http://{} for the app{redirected})",
                    addresses.outbound, addresses.outbound
                ),
            },
            exporter: match collector {
                Reach::Disabled => "disabled".to_owned(),
                reach => format!("{} {} ({reach})", export.protocol, export.endpoint),
            },
            joins: survey.ready(),
            next: next(&survey),
            status: addresses.status.to_string(),
            admin: addresses.admin.to_string(),
            viewer: viewer.map(Beside::describe),
            notes: child
                .map(|child| child.notes().to_vec())
                .unwrap_or_default(),
        }
    }

    fn raise(&self) -> String {
        let raise =
            |(code, why): &(Code, String)| format!("   more: {why} (hopspan explain {code})");
        self.next.as_ref().map(raise).unwrap_or_default()
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
            format!("  joins     {}{}", self.joins, self.raise()),
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

/// What would raise the rung, for a line.
fn next(survey: &Survey) -> Option<(Code, String)> {
    let standing = survey.next()?;
    Some((
        standing.code,
        format!("{}: {}", standing.rung, standing.why),
    ))
}

/// The app's server, where it is known.
fn server(survey: &Survey) -> String {
    match (survey.server.kind, survey.server.processes.first()) {
        (ServerKind::Unknown, _) | (_, None) => String::new(),
        (kind, Some(process)) => format!("; {}: {}", process.name, kind.as_str()),
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

#[cfg(test)]
mod tests;
