//! Traces that failed, and what is to be said of each.

use crate::view::verdict::Case;

/// Three services behind hopspan, `inventory` fails.
const DEEP: &str = "
order server POST /orders/ 500 0..57
  order app POST 500 1..56
    order client POST http://payment-service/pay/ 500 5..50 evidence=serial
      payment server POST /pay/ 500 6..49
        payment app POST 500 7..48
          payment client POST http://inventory-service/reserve/ 500 7.5..47.5 evidence=serial
            inventory server POST /reserve/ 500 8..47
              inventory app POST 500 8.5..46
";

/// Name, tree, case, service, failures, sentence.
pub(super) type Row = (
    &'static str,
    &'static str,
    Case,
    Option<&'static str>,
    usize,
    &'static str,
);

pub(super) const FAILING: &[Row] = &[
    (
        "V1 own failure, V2 passed on",
        DEEP,
        Case::OwnFailure,
        Some("inventory"),
        1,
        "inventory answered 500 to POST /reserve/ after 39 ms; none of its own calls failed; payment and order passed it on",
    ),
    (
        "V1 one service, its calls were fine",
        "
gateway server GET /a 500 0..41
  gateway client GET http://users/ 200 1..10
    users server GET / 200 2..9
",
        Case::OwnFailure,
        Some("gateway"),
        1,
        "gateway answered 500 to GET /a after 41 ms; none of its own calls failed",
    ),
    (
        "V3 translated",
        "
gateway server GET /a 500 0..41
  gateway client GET http://order/o 500 1..40
    order server GET /o 500 2..39
      order app GET 500 3..38
        order client GET http://inventory/item 404 4..30
          inventory server GET /item 404 5..29
            inventory app GET 404 6..28
",
        Case::Translated,
        Some("order"),
        1,
        "order answered 500 after inventory answered 404; gateway passed it on",
    ),
    (
        "V4 recovered by retry",
        "
order server GET /o 200 0..41
  order client GET http://inventory/item 503 4..10
    inventory server GET /item 503 5..9
  order client GET http://inventory/item 200 14..20
    inventory server GET /item 200 15..19
",
        Case::Recovered,
        None,
        1,
        "1 call failed, recovered by retry",
    ),
    (
        "V4 swallowed",
        "
order server GET /o 200 0..41
  order app GET 200 1..40
    order client GET http://inventory/item 503 4..10
    order client GET http://price/item 404 14..20
",
        Case::Swallowed,
        None,
        2,
        "2 calls failed; order answered 200 all the same",
    ),
    (
        "V4 an answer that was enough",
        "
order server GET /o 200 0..41
  order app GET 200 1..40
    order client GET http://price/item 404 14..20
",
        Case::Recovered,
        None,
        1,
        "1 call failed; order answered 200 all the same",
    ),
    (
        "V5 gave up, answered later",
        "
orders server GET /o 504 0..2010
  orders client GET http://inventory/item type=http_response_timeout 5..2005
    inventory server GET /item 200 6..3105
",
        Case::GaveUp,
        Some("orders"),
        1,
        "orders gave up after 2.0 s; inventory answered 200 at 3.1 s",
    ),
    (
        "V5 gave up, the callee was cancelled by that",
        "
gateway server GET /o 500 0..2010
  gateway client GET http://orders/o 500 0..2010
    orders server GET /o 500 0..2010
      orders app GET 500 0..2010
        orders client GET http://inventory/item type=cancelled 5..2005
          inventory server GET /item type=cancelled 6..2006
            inventory app GET type=cancelled 6..2006
",
        Case::GaveUp,
        Some("orders"),
        1,
        "orders gave up on inventory after 2.0 s; gateway passed it on",
    ),
    (
        "V5 the app stopped in the midst of its answer",
        "
audq server GET /o 200 type=connection_read_timeout 0..3009
  audq app GET 200 type=connection_read_timeout 1..3008
",
        Case::GaveUp,
        Some("audq"),
        1,
        "audq's app began to answer and went no further: given up after 3.0 s",
    ),
    (
        "V5 the caller stopped to read",
        "
audq server GET /o 200 type=connection_write_timeout 0..3009
  audq app GET 200 type=connection_write_timeout 1..3008
",
        Case::GaveUp,
        Some("audq"),
        1,
        "the caller of audq took no more of the answer: given up after 3.0 s",
    ),
    (
        "V5 a service stopped in the midst of its answer",
        "
order server GET /p 502 0..3009
  order client GET http://pay/p 200 type=connection_read_timeout 1..3008
",
        Case::GaveUp,
        Some("order"),
        1,
        "pay began to answer order and went no further: given up after 3.0 s",
    ),
    (
        "V7 the app answered with what is no HTTP",
        "
audq server GET /o 502 type=http_protocol_error 0..9
  audq app GET type=http_protocol_error 1..8
",
        Case::Other,
        Some("audq"),
        1,
        "audq's app answered with what is not valid HTTP",
    ),
    (
        "V7 the app's chunks are none",
        "
audq server GET /o 200 type=http_response_transfer_coding 0..9
  audq app GET 200 type=http_response_transfer_coding 1..8
",
        Case::Other,
        Some("audq"),
        1,
        "audq's app broke its answer off with what is not valid HTTP",
    ),
    (
        "V7 a service answered with too large a head",
        "
order server GET /p 502 0..9
  order client GET http://pay/p type=http_response_header_section_size 1..8
",
        Case::Other,
        Some("order"),
        1,
        "pay answered with a head that is too large (to order)",
    ),
    (
        "V7 the caller broke off its request",
        "
audq server POST /o 408 0..3009
  audq app POST type=http_request_error 1..3008
",
        Case::Swallowed,
        None,
        1,
        "the caller of audq did not send the whole of its request; audq answered 408",
    ),
    (
        "V7 no place at the app",
        "
audq server POST /o 503 type=connection_limit_reached 0..9
  audq app POST type=connection_limit_reached server.address=127.0.0.1 1..8
",
        Case::NeverArrived,
        Some("audq"),
        1,
        "audq could not connect to its app at 127.0.0.1 (all its connections are in use)",
    ),
    (
        "V7 the app broke off in the midst of its answer",
        "
audq server GET /o 200 type=http_response_incomplete 0..9
  audq app GET 200 type=http_response_incomplete 1..8
",
        Case::Closed,
        Some("audq"),
        1,
        "audq's app closed the connection in the midst of its answer",
    ),
    (
        "V6 never arrived",
        "
gateway server GET /o 502 0..10
  gateway client GET http://orders/o 502 0..10
    orders server GET /o 502 0..9
      orders client GET http://inventory:8000/item type=connection_refused 5..6
",
        Case::NeverArrived,
        Some("orders"),
        1,
        "orders could not connect to inventory:8000 (refused); inventory never saw it; gateway passed it on",
    ),
    (
        "V6 never arrived where a route sends it",
        "
order server GET /o 502 0..9
  order client GET http://pay/item hopspan.route.to=http://127.0.0.1:27991 type=connection_refused 5..6
",
        Case::NeverArrived,
        Some("order"),
        1,
        "order could not connect to http://127.0.0.1:27991 (refused), where its route sends calls to pay:80; pay never saw it",
    ),
    (
        "V6 the app is down",
        "
orders server GET /o 502 0..9
  orders client GET http://inventory/item 502 5..6
    inventory server GET /item 502 type=connection_refused 5..6
      inventory app GET server.address=127.0.0.1 type=connection_refused 5..6
",
        Case::NeverArrived,
        Some("inventory"),
        1,
        "inventory could not connect to its app at 127.0.0.1 (refused); orders passed it on",
    ),
    (
        "V7 dark peer",
        "
orders server GET /o 500 0..9
  orders client GET http://payments.example/pay 503 5..6
",
        Case::DarkPeer,
        Some("orders"),
        1,
        "payments.example answered 503 to orders; no span of it is here (yet)",
    ),
    (
        "V10 the app closed early",
        "
orders server GET /o 502 type=connection_terminated 0..9
  orders app GET type=connection_terminated 1..8
",
        Case::Closed,
        Some("orders"),
        1,
        "orders's app closed the connection before it had answered",
    ),
    (
        "V10 incomplete",
        "
?gateway server GET / 200 0..9
  orders server GET /o 200 0..9
?  gateway client GET http://users 200 0..9
    users server GET /u 200 2..3
",
        Case::Incomplete,
        None,
        0,
        "2 spans not here (yet)",
    ),
    (
        "V10 the middle is missing",
        "
order server POST /orders/ 500 0..57
?  order client POST http://payment-service/pay/ 500 5..50
?    payment server POST /pay/ 500 6..49
?      payment client POST http://inventory-service/reserve/ 500 7.5..47.5
        inventory server POST /reserve/ 500 8..47
",
        Case::OwnFailure,
        Some("inventory"),
        1,
        "inventory answered 500 to POST /reserve/ after 39 ms; none of its own calls failed; 1 span not here (yet)",
    ),
    (
        "V10 a SERVER span is missing below a failed call",
        "
order server POST /orders/ 500 0..57
  order client POST http://payment-service/pay/ 500 5..50
?    payment server POST /pay/ 500 6..49
      payment app POST 500 7..48
",
        Case::OwnFailure,
        Some("payment"),
        1,
        "payment answered 500 to POST after 41 ms; none of its own calls failed; 1 span not here (yet)",
    ),
    (
        "V10 a failure elsewhere does not explain a refused connection",
        "
order server POST /orders/ 502 0..57
  order client POST http://payment/pay/ type=connection_refused 5..50
? order client GET http://inventory/ 500 6..49
    inventory server GET / 500 7..48
",
        Case::NeverArrived,
        Some("order"),
        2,
        "order could not connect to payment:80 (refused); payment never saw it; 1 span not here (yet)",
    ),
    (
        "the client left",
        "
order server GET /o type=cancelled 0..57
  order app GET type=cancelled 1..57
    order client GET http://payment/ type=cancelled 1..57
      payment server GET / type=cancelled 1..57
",
        Case::GaveUp,
        Some("order"),
        1,
        "the caller of order went away after 57 ms",
    ),
    (
        "not HTTP",
        "
billing consumer settle 0..57
  billing internal charge type=ValueError 1..56
",
        Case::Swallowed,
        None,
        1,
        "1 span failed",
    ),
    (
        "a job that failed inside",
        "
billing internal settle 0..57
  billing internal charge type=ValueError 1..56
",
        Case::OwnFailure,
        Some("billing"),
        1,
        "billing failed in charge (ValueError)",
    ),
];
