//! A pod as a manifest writes it, as far as checks read it.

use serde_json::Value;

/// A pod, or the template of one.
pub(super) struct Pod {
    /// `Deployment order`.
    pub(super) name: String,
    /// The container that runs hopspan.
    pub(super) hopspan: Option<Role>,
    /// The others that run for as long as the pod does.
    pub(super) apps: Vec<Role>,
    /// Whether a container sees the processes of the others.
    pub(super) shares_processes: bool,
}

/// A container.
pub(super) struct Role {
    /// `None`: what its image says.
    pub(super) user: Option<i64>,
    /// Capabilities that are added, without `CAP_`.
    pub(super) added: Vec<String>,
    /// Whether `HTTP_PROXY` and `http_proxy` lead to this host.
    pub(super) proxies: [bool; 2],
    /// Whether there is environment that the manifest does not show.
    pub(super) environment_elsewhere: bool,
    /// An init container that keeps running.
    pub(super) native: bool,
    /// A file is mounted by subPath.
    pub(super) sub_path: bool,
    /// It starts a command of its own: `hopspan run ... -- COMMAND`.
    pub(super) wraps: bool,
}

impl Pod {
    /// The pod of an object, if it has one.
    pub(super) fn of(object: &Value) -> Option<Pod> {
        let kind = object.get("kind")?.as_str()?;
        let spec = object.pointer(match kind {
            "Pod" => "/spec",
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => {
                "/spec/template/spec"
            }
            "CronJob" => "/spec/jobTemplate/spec/template/spec",
            _ => return None,
        })?;
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        let user = integer(spec, "/securityContext/runAsUser");
        let native = |container: &&Value| text(container, "/restartPolicy") == "Always";
        let lasting = list(spec, "/initContainers").filter(native);
        let ordinary = list(spec, "/containers");
        let all = lasting.map(|container| (container, true));
        let (hopspan, apps): (Vec<_>, Vec<_>) = all
            .chain(ordinary.map(|container| (container, false)))
            .partition(|(container, _)| runs_hopspan(container));
        let role = |(container, native): &(&Value, bool)| Role::of(container, user, *native);
        Some(Pod {
            name: format!("{kind} {}", name.unwrap_or("without a name")),
            hopspan: hopspan.first().map(role),
            apps: apps.iter().map(role).collect(),
            shares_processes: ["/shareProcessNamespace", "/hostPID"]
                .iter()
                .any(|path| spec.pointer(path) == Some(&Value::Bool(true))),
        })
    }
}

impl Role {
    fn of(container: &Value, pods_user: Option<i64>, native: bool) -> Role {
        let added = list(container, "/securityContext/capabilities/add").filter_map(Value::as_str);
        let leads_here = |name: &str| {
            let mut environment = list(container, "/env");
            environment.any(|item| text(item, "/name") == name && is_local(text(item, "/value")))
        };
        Role {
            user: integer(container, "/securityContext/runAsUser").or(pods_user),
            added: added
                .map(|name| name.strip_prefix("CAP_").unwrap_or(name).to_owned())
                .collect(),
            proxies: ["HTTP_PROXY", "http_proxy"].map(leads_here),
            environment_elsewhere: list(container, "/envFrom").next().is_some(),
            native,
            sub_path: list(container, "/volumeMounts").any(|mount| {
                let file = text(mount, "/mountPath");
                mount.get("subPath").is_some()
                    && (file.ends_with(".yaml") || file.ends_with(".yml"))
            }),
            wraps: words(container).any(|word| word == "--"),
        }
    }

    /// Whether all of these capabilities are added.
    pub(super) fn adds(&self, names: &[&str]) -> bool {
        names
            .iter()
            .all(|name| self.added.iter().any(|added| added == name))
    }
}

/// By its name, the last part of its image, or what it runs.
fn runs_hopspan(container: &Value) -> bool {
    let image = text(container, "/image");
    let image = image.rsplit('/').next().unwrap_or_default();
    let image = image.split([':', '@']).next().unwrap_or_default();
    let command = list(container, "/command")
        .chain(list(container, "/args"))
        .next();
    let command = command.and_then(Value::as_str).unwrap_or_default();
    image == "hopspan"
        || text(container, "/name") == "hopspan"
        || command.rsplit('/').next() == Some("hopspan")
}

fn words(container: &Value) -> impl Iterator<Item = &str> {
    let words = list(container, "/command").chain(list(container, "/args"));
    words.filter_map(Value::as_str)
}

/// Whether a proxy's URL is of this pod.
fn is_local(url: &str) -> bool {
    let authority = url.split("://").last().unwrap_or_default();
    ["127.0.0.1:", "localhost:", "[::1]:"]
        .iter()
        .any(|host| authority.starts_with(host))
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn integer(value: &Value, path: &str) -> Option<i64> {
    value.pointer(path).and_then(Value::as_i64)
}

fn list<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let items = value.pointer(path).and_then(Value::as_array);
    items.map(Vec::as_slice).unwrap_or_default().iter()
}
