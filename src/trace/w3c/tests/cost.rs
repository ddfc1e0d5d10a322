//! What reading and writing a context costs: a measurement, run on request.

use super::*;

/// Prints nanoseconds: `cargo test --release --lib trace::w3c::tests::cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement, not a check: needs a release build and a quiet machine"]
fn in_nanoseconds() {
    let best = |work: &mut dyn FnMut()| {
        let mut best = f64::MAX;
        for _ in 0..50 {
            let began = std::time::Instant::now();
            (0..2_000).for_each(|_| work());
            best = best.min(began.elapsed().as_nanos() as f64 / 2_000.0);
        }
        best
    };
    let map = headers(&[("traceparent", GOOD), ("host", "x"), ("accept", "*/*")]);
    let full = headers(&[("traceparent", GOOD), ("tracestate", "foo=1,bar=2")]);
    let Extracted::Valid(context) = extract(&full) else {
        panic!()
    };
    let mut out = map.clone();
    let parse = best(&mut || {
        let _ = std::hint::black_box(parse_traceparent(std::hint::black_box(GOOD.as_bytes())));
    });
    let print = best(&mut || {
        let _ = std::hint::black_box(print_traceparent(std::hint::black_box(&context)));
    });
    let extract_one = best(&mut || {
        let _ = std::hint::black_box(extract(&map));
    });
    let extract_both = best(&mut || {
        let _ = std::hint::black_box(extract(&full));
    });
    let injected = best(&mut || inject(&mut out, &context));
    println!(
        "ns: parse {parse:.0}, print {print:.0}, extract {extract_one:.0}, with tracestate {extract_both:.0}, inject {injected:.0}"
    );
}
