//! A client: requests said fluently, one connection kept or a new one each.
//!
//! ```ignore
//! let answer = client::get(sidecar.inbound, "/orders/7/").send().await;
//! let answer = client::get(sidecar.outbound, "http://payment-service/pay").via(&mut kept).await;
//! ```

use std::net::SocketAddr;

use super::message::Response;
use super::raw::{self, Peer};
use super::within;

/// A request in the making.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    address: SocketAddr,
    method: String,
    target: String,
    host: Option<String>,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// GET: `target` is a path, or a whole URL to ask a forward proxy with.
pub(crate) fn get(address: SocketAddr, target: &str) -> Request {
    request("GET", address, target)
}

/// POST with a body of known length.
pub(crate) fn post(address: SocketAddr, target: &str, body: impl Into<Vec<u8>>) -> Request {
    request("POST", address, target).body(body)
}

/// Any method.
pub(crate) fn request(method: &str, address: SocketAddr, target: &str) -> Request {
    Request {
        address,
        method: method.to_owned(),
        target: target.to_owned(),
        host: None,
        fields: Vec::new(),
        body: None,
    }
}

impl Request {
    /// Adds a field; the same name may be added again.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Request {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another Host than that of the target or address.
    pub(crate) fn host(mut self, host: &str) -> Request {
        self.host = Some(host.to_owned());
        self
    }

    /// A body, sent with its length.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self
    }

    /// The bytes on the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let of_target = self
            .target
            .strip_prefix("http://")
            .map(|rest| rest.split('/').next().unwrap().to_owned());
        let host = self.host.clone().or(of_target);
        let host = host.unwrap_or_else(|| self.address.to_string());
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {host}\r\n",
            self.method, self.target
        );
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }

    /// Sends it on a new connection.
    pub(crate) async fn send(&self) -> Response {
        let mut peer = raw::connect(self.address).await;
        self.via(&mut peer).await
    }

    /// Sends it on a connection that is open, and leaves that open.
    pub(crate) async fn via(&self, peer: &mut Peer) -> Response {
        // An early answer may close before all was taken: the answer still counts.
        let _ = peer.try_write(self.bytes()).await;
        peer.response_to(&self.method).await
    }

    /// Connects, where refusal is an outcome.
    pub(crate) async fn connect(&self) -> std::io::Result<Peer> {
        raw::try_connect(self.address).await
    }

    /// Reads the answer to this request; None if the connection ended before a head.
    pub(crate) async fn try_answer(&self, peer: &mut Peer) -> Option<Response> {
        peer.try_response_to(&self.method).await
    }
}

/// What curl, with these arguments, prints of a body and the version of HTTP it came by. Where there is no curl, a word
/// on stderr instead.
pub(crate) async fn curl_agrees(arguments: &[&str], expected: &str) {
    let curl = tokio::process::Command::new("curl")
        .args(["-sS", "-w", " %{http_version}"])
        .args(arguments)
        .output();
    let Ok(output) = within("curl", curl).await else {
        eprintln!("skipped: no curl here");
        return;
    };
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        expected,
        "{output:?}"
    );
}
