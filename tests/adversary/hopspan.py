"""What is run as hopspan: the binary, or the library's test program, which alone can turn rules off."""

import json
import os
import subprocess


def built(root):
    """A function of a config file and an app's command: the command and environment of a hopspan that wraps the app."""
    path = os.environ.get("HOPSPAN_BIN")
    if not path:
        if subprocess.run(["cargo", "build", "--release", "--quiet", "--bin", "hopspan"], cwd=root).returncode != 0:
            return None
        target = os.environ.get("CARGO_TARGET_DIR", os.path.join(root, "target"))
        path = os.path.join(target, "release", "hopspan")
    return lambda config, command: ([path, "run", "--config", config, "--no-shim", "--", *command], {})


def toothless(root, rules):
    """The same without `rules`: src/sidecar/toothless.rs."""
    build = ["cargo", "test", "--lib", "--no-run", "--message-format", "json"]
    done = subprocess.run(build, cwd=root, stdout=subprocess.PIPE)
    messages = [json.loads(line) for line in done.stdout.decode().splitlines() if line.startswith("{")]
    paths = [message["executable"] for message in messages if message.get("executable")]
    if done.returncode != 0 or not paths:
        return None
    test = [paths[-1], "--ignored", "--exact", "sidecar::toothless::a_sidecar_without_rules", "--nocapture"]

    def launch(config, command):
        return test, {"HOPSPAN_RULES_OFF": rules, "HOPSPAN_TOOTHLESS": json.dumps({"config": config, "command": command})}

    return launch
