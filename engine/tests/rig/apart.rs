//! A test that needs a network or mounts of its own: it is run again as a process of its own, in namespaces made for it.
//!
//! It is root there, also if whoever started it is not. Namespaces go with the last process in them, and all its processes
//! go with the test; of one that is killed nothing stays but a folder in the place for temporary files, named after it.
//! Deliberately not here: what is made in namespaces.

use std::any::type_name;
use std::env;
use std::process::{Command, Output};

use super::run;

/// Set in the process that runs the test in its namespaces.
const APART: &str = "SLUICE_TEST_APART";

/// What a test has of its own, as `unshare` knows it.
#[derive(Clone, Copy)]
pub enum Own {
    Network,
    Mounts,
}

impl Own {
    fn flags(self) -> &'static str {
        match self {
            Self::Network => "-rn",
            Self::Mounts => "-rm",
        }
    }
}

/// Runs what is in `test`, which is the function that calls this, apart.
pub fn apart<T: Fn()>(own: Own, _test: T, scene: impl Future<Output = ()>) {
    if env::var_os(APART).is_some() {
        return run(scene);
    }
    let allowed = Command::new("unshare").args([own.flags(), "true"]).status();
    assert!(
        allowed.is_ok_and(|status| status.success()),
        "this test makes namespaces: install `apt-get install util-linux`, and run it as root, or allow it with \
         `sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0`"
    );
    let (_, name) = type_name::<T>().split_once("::").unwrap();
    let files = tempfile::Builder::new().prefix(&format!("sluice-{name}-")).tempdir().unwrap();
    let mut command = Command::new("unshare");
    // It does not outlive who waits for it.
    command.args([own.flags(), "setpriv", "--pdeathsig", "KILL"]).arg(env::current_exe().unwrap());
    command.args(["--exact", name, "--include-ignored", "--nocapture", "--test-threads", "1"]);
    let Output { status, stdout, stderr } =
        command.env(APART, "1").env("TMPDIR", files.path()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    print!("{stdout}{stderr}");
    // A test that was not found passes, too.
    assert!(status.success() && stdout.contains("1 passed"), "{name}, apart: {status}");
}
