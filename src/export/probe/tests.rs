use tokio::net::TcpListener;

use super::super::tests::support::{self, Answer, towards};
use super::*;
use crate::config::Protocol;

const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_collector_that_takes_spans_answers_and_gets_none() {
    for protocol in [Protocol::HttpProtobuf, Protocol::Grpc] {
        let collector = match protocol {
            Protocol::HttpProtobuf => support::http().await,
            Protocol::Grpc => support::grpc().await,
        };
        let settings = towards(&collector, protocol);
        assert_eq!(reach(&settings, SOON).await, Reach::Accepts);
        assert_eq!(try_out(&settings, SOON).await, Reach::Answers);
        collector.got(1).await;
        assert_eq!(collector.spans().len(), 0);
    }
}

#[tokio::test]
async fn what_is_wrong_has_a_name_of_its_own() {
    let off = Export {
        disabled: true,
        ..Export::default()
    };
    assert_eq!(try_out(&off, SOON).await, Reach::Disabled);

    let (_closed, endpoint) = support::closed();
    let url = |listener: &TcpListener| Some(format!("http://{}", listener.local_addr().unwrap()));
    let nobody = Export {
        endpoint: Some(endpoint),
        ..Export::default()
    };
    let Reach::Unreachable(why) = try_out(&nobody, SOON).await else {
        panic!("a closed port answered");
    };
    assert!(why.contains("refused"), "{why}");

    // Accepts by its queue alone, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = Export {
        endpoint: url(&silent),
        ..Export::default()
    };
    assert_eq!(reach(&mute, SOON).await, Reach::Accepts);
    let soon = Duration::from_millis(50);
    assert_eq!(try_out(&mute, soon).await, Reach::TimedOut);

    let wrong = Export {
        endpoint: Some("collector:4318".to_owned()),
        ..Export::default()
    };
    assert!(matches!(reach(&wrong, SOON).await, Reach::Wrong(_)));
}

#[tokio::test]
async fn a_collector_that_refuses_or_speaks_another_protocol_rejects() {
    let strict = support::http()
        .await
        .then([Answer::Refuse(401, Vec::new())]);
    let Reach::Rejects(why) = try_out(&towards(&strict, Protocol::HttpProtobuf), SOON).await else {
        panic!("401 was taken for an answer");
    };
    assert!(why.contains("401"), "{why}");

    let grpc = support::grpc().await;
    let other = try_out(&towards(&grpc, Protocol::HttpProtobuf), SOON).await;
    assert!(matches!(other, Reach::Rejects(_)), "{other:?}");
}
