//! The cache against a scripted resolver.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// The defaults.
const LIMITS: ResolveLimits = ResolveLimits {
    timeout: Duration::from_secs(2),
    keep: Duration::from_secs(5),
    stale: Duration::from_secs(60),
    names: 256,
};

enum Reply {
    Is(&'static str),
    Fails,
    Hangs,
}

struct Scripted {
    resolver: Arc<Resolver>,
    asked: Arc<AtomicUsize>,
}

fn scripted(replies: Vec<Reply>) -> Scripted {
    let replies = Mutex::new(VecDeque::from(replies));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let resolver = Resolver::with(Box::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let reply = replies.lock().unwrap().pop_front().unwrap_or(Reply::Fails);
        Box::pin(async move {
            tokio::task::yield_now().await;
            match reply {
                Reply::Is(address) => Ok(vec![address.parse().unwrap()]),
                Reply::Fails => Err(io::Error::other("no such name")),
                Reply::Hangs => std::future::pending().await,
            }
        })
    }));
    Scripted { resolver, asked }
}

fn name() -> Arc<str> {
    Arc::from("payment")
}

async fn first(scripted: &Scripted) -> Result<String, ResolveError> {
    let found = scripted.resolver.resolve(&name(), &LIMITS).await?;
    Ok(found[0].to_string())
}

#[test]
fn the_defaults_are_those_of_the_config() {
    let config = ResolveLimits::of(&Timeouts::default(), &Limits::default());
    assert_eq!(config, LIMITS);
}

#[tokio::test(start_paused = true)]
async fn how_long_and_how_many_are_remembered_are_settings() {
    let limits = ResolveLimits {
        timeout: Duration::from_millis(100),
        keep: Duration::from_secs(20),
        stale: Duration::ZERO,
        names: 1,
    };
    let scripted = scripted(vec![
        Reply::Is("10.0.0.1"),
        Reply::Is("10.0.0.2"),
        Reply::Is("10.0.0.3"),
        Reply::Hangs,
    ]);
    let resolver = &scripted.resolver;
    let ask = async |name: &str| {
        let found = resolver.resolve(&Arc::from(name), &limits).await?;
        Ok(found[0].to_string())
    };
    let second = Duration::from_secs(1);
    assert_eq!(ask("a").await.as_deref(), Ok("10.0.0.1"));
    tokio::time::advance(limits.keep - second).await;
    assert_eq!(ask("a").await.as_deref(), Ok("10.0.0.1"), "kept");
    assert_eq!(ask("b").await.as_deref(), Ok("10.0.0.2"));
    assert_eq!(ask("a").await.as_deref(), Ok("10.0.0.3"), "forgotten for b");
    tokio::time::advance(limits.keep).await;
    let began = Instant::now();
    assert_eq!(ask("a").await, Err(ResolveError::Timeout), "nothing stale");
    assert_eq!(began.elapsed(), limits.timeout);
    let full = ask("b").await;
    assert!(matches!(full, Err(ResolveError::Failed(_))), "{full:?}");
    assert_eq!(scripted.asked.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn nothing_stale_stands_in_for_a_failure_where_that_is_off() {
    let limits = ResolveLimits {
        stale: Duration::ZERO,
        ..LIMITS
    };
    let scripted = scripted(vec![Reply::Is("10.0.0.1"), Reply::Fails]);
    let ask = async || scripted.resolver.resolve(&name(), &limits).await;
    assert!(ask().await.is_ok());
    tokio::time::advance(limits.keep).await;
    assert!(matches!(ask().await, Err(ResolveError::Failed(_))));
}

#[tokio::test(start_paused = true)]
async fn where_fewer_names_are_allowed_than_before_the_surplus_is_forgotten() {
    let resolver = Resolver::with(Box::new(|_| {
        Box::pin(async { Ok(vec!["10.0.0.1".parse().unwrap()]) })
    }));
    let few = ResolveLimits { names: 3, ..LIMITS };
    for (number, limits) in (0..20).map(|number| (number, LIMITS)).chain([(20, few)]) {
        let name: Arc<str> = Arc::from(format!("name{number}"));
        resolver.resolve(&name, &limits).await.unwrap();
    }
    assert_eq!(resolver.names().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn many_askers_make_one_lookup_and_the_answer_is_kept() {
    let scripted = scripted(vec![Reply::Is("10.0.0.1"), Reply::Is("10.0.0.2")]);
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let resolver = scripted.resolver.clone();
        askers
            .spawn(async move { resolver.resolve(&name(), &LIMITS).await.unwrap()[0].to_string() });
    }
    for found in askers.join_all().await {
        assert_eq!(found, "10.0.0.1");
    }
    assert_eq!(scripted.asked.load(Ordering::SeqCst), 1);
    tokio::time::advance(LIMITS.keep).await;
    assert_eq!(first(&scripted).await.unwrap(), "10.0.0.2", "asked again");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_kept_for_a_second() {
    let scripted = scripted(vec![Reply::Fails, Reply::Is("10.0.0.1")]);
    assert!(matches!(
        first(&scripted).await,
        Err(ResolveError::Failed(_))
    ));
    assert!(first(&scripted).await.is_err());
    assert_eq!(scripted.asked.load(Ordering::SeqCst), 1);
    tokio::time::advance(KEEP_BAD).await;
    assert_eq!(first(&scripted).await.unwrap(), "10.0.0.1");
}

#[tokio::test(start_paused = true)]
async fn while_the_resolver_fails_or_hangs_the_last_good_answer_serves_a_minute() {
    let scripted = scripted(vec![Reply::Is("10.0.0.1"), Reply::Fails, Reply::Hangs]);
    first(&scripted).await.unwrap();
    tokio::time::advance(LIMITS.keep).await;
    assert_eq!(first(&scripted).await.unwrap(), "10.0.0.1", "it failed");
    tokio::time::advance(KEEP_BAD).await;
    assert_eq!(first(&scripted).await.unwrap(), "10.0.0.1", "it hangs");
    assert_eq!(scripted.asked.load(Ordering::SeqCst), 3);
    tokio::time::advance(LIMITS.stale).await;
    assert_eq!(first(&scripted).await, Err(ResolveError::Timeout));
    assert_eq!(
        scripted.asked.load(Ordering::SeqCst),
        3,
        "still the same lookup"
    );
}

#[tokio::test(start_paused = true)]
async fn the_number_of_names_and_of_lookups_at_once_is_bounded() {
    let started = Arc::new(AtomicUsize::new(0));
    let count = started.clone();
    let resolver = Resolver::with(Box::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::pending())
    }));
    for number in 0..50 {
        let name: Arc<str> = Arc::from(format!("name{number}"));
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.resolve(&name, &LIMITS).await });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(started.load(Ordering::SeqCst), AT_ONCE);

    let resolver = Resolver::with(Box::new(|_| {
        Box::pin(async { Ok(vec!["10.0.0.1".parse().unwrap()]) })
    }));
    for number in 0..2 * LIMITS.names {
        resolver
            .resolve(&Arc::from(format!("name{number}")), &LIMITS)
            .await
            .unwrap();
    }
    assert!(resolver.names().len() <= LIMITS.names);
}

#[tokio::test(start_paused = true)]
async fn names_that_wait_for_a_resolver_that_hangs_are_bounded_and_each_has_an_end() {
    let resolver = Resolver::with(Box::new(|_| Box::pin(std::future::pending())));
    let began = Instant::now();
    let mut askers = tokio::task::JoinSet::new();
    for number in 0..LIMITS.names + 50 {
        let resolver = resolver.clone();
        askers.spawn(async move {
            let name: Arc<str> = Arc::from(format!("name{number}"));
            let outcome = resolver.resolve(&name, &LIMITS).await.unwrap_err();
            (outcome, began.elapsed())
        });
    }
    let outcomes = askers.join_all().await;
    let timeouts = outcomes
        .iter()
        .filter(|(error, after)| *error == ResolveError::Timeout && *after == LIMITS.timeout);
    assert_eq!(timeouts.count(), LIMITS.names);
    let told = outcomes
        .iter()
        .filter(|(error, after)| matches!(error, ResolveError::Failed(_)) && after.is_zero());
    assert_eq!(told.count(), 50);
    assert_eq!(resolver.names().len(), LIMITS.names);
}
