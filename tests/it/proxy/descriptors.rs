//! A listener without file descriptors: it waits, counts, and goes on. In a process of its own, for the limit.

use std::fs::File;
use std::process::Command;
use std::time::{Duration, Instant};

use http::Response;

use hopspan::proxy::body::ResponseBody;
use hopspan::proxy::listener;
use hopspan::proxy::server::ServeLimits;
use hopspan::telemetry::metrics::Metrics;

use super::raw::{Raw, Served, answer, eventually};

#[test]
fn rustsec_2024_0376_an_accept_loop_survives_running_out_of_descriptors() {
    let limited =
        "ulimit -n 64 && exec \"$0\" --ignored --exact proxy::descriptors::under_a_limit_of_64";
    let output = Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("1 passed"), "it ran: {told}");
}

fn refused(served: &Served) -> u32 {
    let metrics = served.metrics.encode();
    let line = metrics.lines().find_map(|l| {
        l.strip_prefix("hopspan_connections_refused_total{reason=\"accept_error\"} ")
    });
    line.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
#[ignore = "needs a descriptor limit: run by the test above in a child process"]
async fn under_a_limit_of_64() {
    assert_eq!(listener::connections_that_fit(10_000), 19);
    assert_eq!(listener::connections_that_fit(5), 5);
    let handler = answer(|_, _| async { Response::new(ResponseBody::from("hello")) });
    let served = Served::start(handler, ServeLimits::default(), Metrics::new()).await;
    let mut hog = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hog.push(file);
    }
    // Room for the client's end only.
    hog.pop();
    let begun = Instant::now();
    let mut client = Raw::connect(served.address).await;
    eventually("accept fails", || refused(&served) > 0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Its pauses grow to a second: seven in the first two, and one each after.
    let refused = refused(&served);
    assert!(
        u64::from(refused) < 10 + begun.elapsed().as_secs(),
        "it spins: {refused}"
    );
    drop(hog);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.until("hello").await;
}
