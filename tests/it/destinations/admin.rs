//! Who may call out through hopspan may not command it.

use serde_json::json;

use super::is_denied;
use crate::support::{client, raw, sidecar};

#[tokio::test]
async fn nobody_commands_hopspan_through_itself() {
    for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
        let port = raw::closed_port().port();
        let listen = listen.replace(":0", &format!(":{port}"));
        let hopspan = sidecar::to(raw::closed_port())
            .set("admin.listen", json!(listen))
            .set("outbound.allow", json!(["*"]))
            .set(
                "outbound.routes",
                json!([{"host": "desk", "to": format!("http://127.0.0.1:{port}")}]),
            )
            .run()
            .await;
        let (mut asked, outbound) = (0, hopspan.outbound);
        let spellings = ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"];
        for host in spellings.map(|host| format!("{host}:{port}")) {
            let url = |path: &str| format!("http://{host}{path}");
            for request in [
                client::get(outbound, &url("/config")),
                client::get(outbound, "/config").host(&host),
                client::request("POST", outbound, &url("/drain")),
                client::request("CONNECT", outbound, &host).host(&host),
            ] {
                let answer = request.send().await;
                assert!(is_denied(&answer), "{request:?}: {}", answer.text());
                assert!(answer.text().contains("admin"), "{}", answer.text());
                asked += 1;
            }
        }
        let answer = client::get(outbound, "http://desk/config").send().await;
        assert!(is_denied(&answer), "a route: {}", answer.text());
        assert_eq!(asked, 16);
        // Itself it serves, and what it tells everybody is told this way, too.
        let own = client::get(hopspan.admin, "/config").send().await;
        assert_eq!(own.status, 200);
        let ready = format!("http://{}/readyz", hopspan.status);
        assert_eq!(client::get(outbound, &ready).send().await.status, 200);
    }
}
