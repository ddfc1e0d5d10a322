//! Hot reload against real files: each way in which editors and Kubernetes change one, good files and bad.

mod django;
mod watched;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hopspan::config::Address;
use hopspan::routing::Reloader;
use hopspan::telemetry::metrics::Metrics;
use watched::{Watched, config};

#[tokio::test]
async fn each_way_to_change_a_file_is_seen() {
    let mut ways = 0;
    for (way, change) in watched::WAYS {
        let watched = Watched::start().await;
        for n in 2..=4 {
            change(watched.path(), &config(n));
            watched.generation(n).await;
            assert_eq!(watched.app(), config_app(n), "{way}");
        }
        assert_eq!(watched.reloader.status().last_error, None, "{way}");
        ways += 1;
    }
    assert_eq!(ways, 5);
}

fn config_app(n: u64) -> Address {
    Address::tcp("127.0.0.1", 9000 + u16::try_from(n).unwrap())
}

#[tokio::test]
async fn a_swapped_data_link_is_seen() {
    let watched = Watched::start_as_config_map().await;
    for n in 2..=4 {
        watched.swap_data_link(n);
        watched.generation(n).await;
        assert_eq!(watched.app(), config_app(n));
    }
}

#[tokio::test]
async fn a_bad_file_keeps_the_last_good_config_whole() {
    let watched = Watched::start().await;
    watched::write(watched.path(), "inbound:\n  app: nowhere\n  routs: []\n");
    watched.refused().await;
    let status = watched.reloader.status();
    assert_eq!(status.generation, 1);
    let error = status.last_error.unwrap();
    assert!(error.contains(":2:8: error: `nowhere`"), "{error}");
    assert!(error.contains("did you mean `routes`?"), "{error}");
    assert_eq!(watched.app(), config_app(1));
    let metrics = watched.metrics.encode();
    assert!(metrics.contains("hopspan_config_last_reload_successful 0"));
    assert!(metrics.contains("hopspan_config_generation 1"));

    // Not taken by hand either, and said again to the one who asks.
    let refused = watched.reloader.reload().unwrap_err();
    assert_eq!(refused.0.len(), 2);

    // The file of before is what is in use: no new generation, no error.
    watched::write(watched.path(), &config(1));
    let again = watched.reloader.reload().unwrap();
    assert_eq!((again.from, again.to), (1, 1));
    assert_eq!(watched.reloader.status().last_error, None);
    assert!(
        watched
            .metrics
            .encode()
            .contains("hopspan_config_last_reload_successful 1")
    );

    watched::write(watched.path(), &config(2));
    watched.generation(2).await;
}

#[tokio::test]
async fn a_file_that_is_gone_or_empty_changes_nothing() {
    let watched = Watched::start().await;
    std::fs::remove_file(watched.path()).unwrap();
    watched.two_looks().await;
    assert_eq!(watched.reloader.status().generation, 1);
    let error = watched.reloader.reload().unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");

    watched::write(watched.path(), "");
    let error = watched.reloader.reload().unwrap_err().to_string();
    assert!(error.contains("it is empty"), "{error}");
    assert_eq!(watched.app(), config_app(1));

    watched::write(watched.path(), &config(2));
    watched.generation(2).await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_left_as_it_runs() {
    let watched = Watched::start().await;
    let text = format!(
        "{}  listen: 127.0.0.1:1\nservice: a\ntimeouts: {{ idle: 1s }}\n",
        config(2)
    );
    watched::write(watched.path(), &text);
    let reloaded = watched.reload();
    assert_eq!(reloaded.to, 2);
    assert_eq!(reloaded.needs_restart, ["service", "inbound.listen"]);
    assert_eq!(
        watched.reloader.status().needs_restart,
        reloaded.needs_restart
    );
    assert!(
        watched
            .metrics
            .encode()
            .contains("hopspan_config_needs_restart 2")
    );
    let in_use = watched.reloader.config_in_use();
    assert_eq!(in_use.inbound.listen, Address::tcp("0.0.0.0", 8080));
    assert_eq!(in_use.inbound.app, [config_app(2).into()]);
    let snapshot = watched.reloader.table().load();
    assert_eq!(snapshot.timeouts.idle.as_secs(), 1);

    // Taken back: nothing is left to restart for.
    watched::write(watched.path(), &config(3));
    watched.generation(3).await;
    assert!(watched.reloader.status().needs_restart.is_empty());
}

#[tokio::test]
async fn the_same_content_is_no_new_generation() {
    let watched = Watched::start().await;
    watched::replace(watched.path(), &config(1));
    watched.two_looks().await;
    let reloaded = watched.reloader.reload().unwrap();
    assert_eq!((reloaded.from, reloaded.to), (1, 1));
}

#[test]
fn without_a_file_there_is_nothing_to_reload() {
    let reloader = Reloader::start(None, Metrics::new(), |config| {
        config.inbound.app = vec![Address::tcp("127.0.0.1", 1).into()];
    })
    .unwrap();
    let app = reloader.table().load().inbound.route("/").app.clone();
    assert_eq!(app[0].address, Address::tcp("127.0.0.1", 1));
    let error = reloader.reload().unwrap_err().to_string();
    assert!(error.contains("start with --config"), "{error}");
}

#[test]
fn a_first_file_that_is_bad_or_missing_is_an_error() {
    let start = |path: &Path| Reloader::start(Some(path.to_owned()), Metrics::new(), |_| {});
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hopspan.yaml");
    let error = start(&path).err().unwrap().to_string();
    assert!(error.contains("check the path after --config"), "{error}");
    std::fs::write(&path, b"service: \xff\n").unwrap();
    let error = start(&path).err().unwrap().to_string();
    assert!(error.contains("byte 10 is not UTF-8"), "{error}");
}

/// Readers load while the file is changed 200 times, every fifth time to something broken; each snapshot is of one piece.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_reloads_under_load_show_only_whole_snapshots() {
    let watched = Watched::start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let table = watched.reloader.table();
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let (mut loads, mut last) = (0_u64, 0);
                while !stop.load(Ordering::Relaxed) {
                    let snapshot = table.load();
                    let route = snapshot.inbound.route("/orders/7/");
                    let port = route.app[0].address.port().unwrap();
                    let host = format!("service-{port}");
                    assert!(snapshot.outbound.route(&host, 80).name.is_some(), "mixed");
                    assert!(snapshot.generation >= last, "went back");
                    last = snapshot.generation;
                    loads += 1;
                }
                loads
            })
        })
        .collect();
    let mut taken = 1;
    for n in 1..=200_u64 {
        let change = watched::WAYS[usize::try_from(n).unwrap() % watched::WAYS.len()].1;
        if n % 5 == 0 {
            change(watched.path(), "inbound: [\n");
            assert!(watched.reloader.reload().is_err());
        } else {
            change(watched.path(), &config(n + 1));
            watched.reloader.reload().unwrap();
            taken += 1;
        }
        assert_eq!(watched.reloader.status().generation, taken);
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
}

#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_refusal_is_logged_once_per_content_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hopspan.yaml");
    watched::write(&path, &config(1));
    let reloader = Reloader::start(Some(path.clone()), Metrics::new(), |_| {}).unwrap();
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // With one subscriber in all, tracing asks only the thread that meets an event first, which may be another test's.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    tracing::subscriber::with_default(subscriber, || {
        for text in ["a: 1\n", "a: 1\n", "b: 1\n"] {
            watched::write(&path, text);
            assert!(reloader.reload().is_err());
        }
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let said: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("yaml:1:1: unknown key"))
        .collect();
    assert_eq!(said.len(), 2, "{log}");
    assert!(
        said[0].contains("ERROR") && said[0].contains("`a`"),
        "{log}"
    );
    assert_eq!(
        log.matches("generation 1 keeps serving").count(),
        2,
        "{log}"
    );
}
