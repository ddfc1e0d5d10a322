//! Verdicts on what hopspan itself did, on tunnels, and on why there was no connection: rows as in `failing`.

use super::failing::Row;
use crate::view::verdict::Case;

pub(super) const OWN: &[Row] = &[
    (
        "V6 the certificate",
        "
order client GET http://pay/ hopspan.route.to=https://pay type=tls_certificate_error why=the_certificate_of_pay:443_is_not_accepted:_it_has_expired 5..6
",
        Case::NeverArrived,
        Some("order"),
        1,
        "order could not connect to https://pay (its certificate is not accepted: it has expired), where its route sends \
         calls to pay:80; pay never saw it",
    ),
    (
        "V6 redirected: where the connection went, and what the call names",
        "
order client GET http://pay/ network.peer.address=fd00::7 type=connection_refused 5..6
",
        Case::NeverArrived,
        Some("order"),
        1,
        "order could not connect to fd00::7 (refused), where its call to pay:80 was going; pay never saw it",
    ),
    (
        "V6 a socket of the app that is not there",
        "
order server GET /o 503 type=destination_unavailable why=could_not_connect_to_unix:/a:_the_socket_does_not_exist 0..9
  order app GET type=destination_unavailable why=could_not_connect_to_unix:/a:_the_socket_does_not_exist 1..8
",
        Case::NeverArrived,
        Some("order"),
        1,
        "order could not connect to its app (unreachable: the socket does not exist)",
    ),
    (
        "hopspan did not let the call out",
        "
order server GET /o 500 0..9
  order client GET http://169.254.169.254/ type=destination_ip_prohibited why=it_is_not_allowed 5..6
",
        Case::NeverArrived,
        Some("order"),
        1,
        "hopspan did not pass order's call on: it is not allowed; 169.254.169.254 never saw it",
    ),
    (
        "hopspan refused what is no request",
        "
order client GET http://pay/ 400 type=http_request_error why=the_port_is_not_one 5..6
",
        Case::NeverArrived,
        Some("order"),
        1,
        "hopspan did not pass order's call on: the port is not one; pay never saw it",
    ),
    (
        "hopspan ended a silent tunnel",
        "
order client CONNECT http://pay/ 200 hopspan.tunnel.sent_bytes=5 type=connection_read_timeout why=no_byte_came 0..3000
",
        Case::GaveUp,
        Some("order"),
        1,
        "hopspan ended order's tunnel to pay after 3.0 s: no byte came",
    ),
    (
        "hopspan ended a silent WebSocket",
        "
order server GET /ws 101 type=connection_read_timeout why=no_byte_came 0..3000
  order app GET 101 hopspan.tunnel.sent_bytes=5 type=connection_read_timeout why=no_byte_came 0..3000
",
        Case::GaveUp,
        Some("order"),
        1,
        "hopspan ended a tunnel to order's app after 3.0 s: no byte came",
    ),
    (
        "hopspan stopped, and with it a tunnel",
        "
order client CONNECT http://pay/ 200 hopspan.tunnel.sent_bytes=5 type=cancelled why=hopspan_stopped 0..3000
",
        Case::GaveUp,
        Some("order"),
        1,
        "order's tunnel to pay was cut off after 3.0 s: hopspan stopped",
    ),
    (
        "a service reset a tunnel",
        "
order client TCP http://pay/ hopspan.tunnel.sent_bytes=5 type=connection_terminated 0..3000
",
        Case::Closed,
        Some("order"),
        1,
        "order's tunnel to pay was reset by pay after 3.0 s",
    ),
    (
        "gRPC says it by a status of its own",
        "
order client POST http://pay/ 200 rpc.response.status_code=NOT_FOUND type=NOT_FOUND 5..6
",
        Case::DarkPeer,
        Some("order"),
        1,
        "pay answered NOT_FOUND to order; no span of it is here (yet)",
    ),
];
