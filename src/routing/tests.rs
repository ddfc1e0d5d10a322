use super::*;

fn snapshot(text: &str) -> Snapshot {
    load(&Source::new("hopspan.yaml", text), &|_| {}, 1)
        .unwrap()
        .1
}

#[test]
fn the_example_of_the_design_means_what_it_says() {
    let snapshot = snapshot(
        "service: order-service
inbound:
  app: 127.0.0.1:8000
  trust: [10.0.0.0/8]
  routes:
    - path: orders/<int:pk>/
    - path: healthz
      trace: false
    - path: reports/<path:rest>
      app: 127.0.0.1:8001
      timeout: 120s
outbound:
  routes:
    - host: payment-service
      to: http://payment:8080
    - host: '*.internal'
      propagate: false
sampling: { ratio: 0.5, rate: 50/s }
capture: { request_headers: [X-Request-Id], redact: [token] }
",
    );
    let order = snapshot.inbound.route("/orders/42/");
    assert_eq!(order.pattern.as_deref(), Some("orders/<int:pk>/"));
    assert!(!snapshot.inbound.route("/healthz").trace);
    let report = snapshot.inbound.route("/reports/2026/10.pdf");
    assert_eq!(report.app[0].to_string(), "127.0.0.1:8001");
    assert_eq!(report.timeout, Some(std::time::Duration::from_secs(120)));
    assert_eq!(snapshot.inbound.route("/nothing").pattern, None);
    assert!(snapshot.inbound.trusts("10.1.2.3".parse().unwrap(), None));
    assert!(
        snapshot
            .inbound
            .trusts("::ffff:10.1.2.3".parse().unwrap(), None)
    );
    assert!(!snapshot.inbound.trusts("192.0.2.1".parse().unwrap(), None));
    assert!(
        snapshot
            .inbound
            .is_trusted_proxy("127.0.0.1".parse().unwrap())
    );
    let payment = snapshot.outbound.route("Payment-Service.", 80);
    assert_eq!(
        payment.to.as_ref().unwrap().to_string(),
        "http://payment:8080"
    );
    assert!(!snapshot.outbound.route("a.b.internal", 1).propagate);
    assert!(snapshot.outbound.route("internal", 1).propagate);
    assert_eq!(snapshot.sampling.sampler, SamplerKind::Ratio(0.5));
    assert_eq!(snapshot.sampling.rate, Some(50.0));
    assert_eq!(
        &*snapshot.capture.request_headers[0].1,
        "http.request.header.x-request-id"
    );
}
