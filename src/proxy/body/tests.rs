//! How each kind of body ends, without a network.

use std::sync::{Arc, Mutex};

use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;

use super::*;

#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<String>>>);

impl Ends {
    fn told(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Watch for Ends {
    fn data(&mut self, bytes: usize) {
        self.0.lock().unwrap().push(format!("data {bytes}"));
    }

    fn end(self: Box<Self>, how: BodyEnd<'_>) {
        let how = match how {
            BodyEnd::Complete => "complete",
            BodyEnd::Failed(_) => "failed",
            BodyEnd::Cancelled => "cancelled",
            BodyEnd::Untaken => "untaken",
        };
        self.0.lock().unwrap().push(how.to_owned());
    }
}

/// Frames as scripted; `exact` bodies know their length.
struct Script {
    frames: Vec<Result<Frame<Bytes>, BodyError>>,
    exact: bool,
    pending: bool,
}

impl Script {
    fn new(frames: Vec<Result<Frame<Bytes>, BodyError>>) -> Script {
        Script {
            frames,
            exact: false,
            pending: false,
        }
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.frames.is_empty() {
            if self.pending {
                return Poll::Pending;
            }
            return Poll::Ready(None);
        }
        Poll::Ready(Some(self.frames.remove(0)))
    }

    fn is_end_stream(&self) -> bool {
        self.exact && self.frames.is_empty()
    }
}

fn data(bytes: &'static str) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(Bytes::from_static(bytes.as_bytes())))
}

#[tokio::test]
async fn a_chunked_body_is_complete_at_none_and_not_before() {
    let ends = Ends::default();
    let script = Script::new(vec![data("ab"), data("c")]);
    let mut body = Watched::new(script, Box::new(ends.clone()));
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap();
    assert_eq!(ends.told(), ["data 2", "data 1"]);
    assert!(body.frame().await.is_none());
    drop(body);
    assert_eq!(ends.told(), ["data 2", "data 1", "complete"]);
}

#[tokio::test]
async fn an_exact_body_is_complete_with_its_last_frame() {
    let ends = Ends::default();
    let script = Script {
        exact: true,
        ..Script::new(vec![data("ab")])
    };
    let mut body = Watched::new(script, Box::new(ends.clone()));
    body.frame().await.unwrap().unwrap();
    assert_eq!(ends.told(), ["data 2", "complete"]);
    drop(body);
    assert_eq!(ends.told().len(), 2, "told once");
}

#[test]
fn an_empty_body_that_nobody_polls_is_complete() {
    let ends = Ends::default();
    drop(Watched::new(
        Full::new(Bytes::new()),
        Box::new(ends.clone()),
    ));
    assert_eq!(ends.told(), ["complete"]);
}

#[tokio::test]
async fn trailers_complete_a_body() {
    let ends = Ends::default();
    let script = Script::new(vec![data("x"), Ok(Frame::trailers(HeaderMap::new()))]);
    let mut body = Watched::new(script, Box::new(ends.clone()));
    body.frame().await.unwrap().unwrap();
    body.frame().await.unwrap().unwrap();
    assert_eq!(ends.told(), ["data 1", "complete"]);
}

#[tokio::test]
async fn trailers_with_space_around_a_value_fail_a_body() {
    for value in [" a", "a ", "\ta"] {
        let ends = Ends::default();
        let mut fields = HeaderMap::new();
        fields.insert("x-a", value.parse().unwrap());
        let script = Script::new(vec![Ok(Frame::trailers(fields))]);
        let mut body = Watched::new(script, Box::new(ends.clone()));
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.fault(), BodyFault::Malformed, "{value:?}");
        assert_eq!(ends.told(), ["failed"]);
    }
}

#[tokio::test]
async fn an_error_fails_and_the_drop_adds_nothing() {
    let ends = Ends::default();
    let error = BodyError::Idle(Duration::from_secs(1));
    let mut body = Watched::new(
        Script::new(vec![data("x"), Err(error)]),
        Box::new(ends.clone()),
    );
    body.frame().await.unwrap().unwrap();
    assert!(body.frame().await.unwrap().is_err());
    drop(body);
    assert_eq!(ends.told(), ["data 1", "failed"]);
}

#[tokio::test]
async fn a_dropped_body_is_cancelled() {
    let ends = Ends::default();
    let mut body = Watched::new(
        Script::new(vec![data("x"), data("y")]),
        Box::new(ends.clone()),
    );
    body.frame().await.unwrap().unwrap();
    drop(body);
    assert_eq!(ends.told(), ["data 1", "cancelled"]);
}

#[tokio::test]
async fn a_body_cut_off_from_who_takes_nothing_is_not_cancelled() {
    for (left, end) in [(vec![data("x")], "untaken"), (Vec::new(), "complete")] {
        let ends = Ends::default();
        let script = Script {
            exact: true,
            ..Script::new(left)
        };
        let mut body = Watched::new(script, Box::new(ends.clone()));
        body.is_untaken();
        drop(body);
        assert_eq!(ends.told(), [end]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_body_fails_after_its_limit_counted_from_the_last_progress() {
    let ends = Ends::default();
    let script = Script {
        pending: true,
        ..Script::new(vec![data("x")])
    };
    let limit = Duration::from_secs(60);
    let mut body = Watched::new(script, Box::new(ends.clone())).idle_limit(Some(limit));
    body.frame().await.unwrap().unwrap();
    let started = Instant::now();
    let failed = body.frame().await.unwrap().unwrap_err();
    assert_eq!(failed.fault(), BodyFault::Idle);
    assert_eq!(started.elapsed().as_secs(), 60);
    assert_eq!(ends.told(), ["data 1", "failed"]);
}

#[tokio::test]
async fn content_at_hand_is_one_frame_of_known_length() {
    let body = Content::from("hello");
    assert_eq!(body.size_hint().exact(), Some(5));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
    assert!(Content::from("").is_end_stream());
}
