//! Where and of what a measurement was made: without it a figure means nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The commit of the source tree this program was built in; with `-dirty` if it has been changed since.
    pub commit: String,
    /// Processors' model.
    pub cpu: String,
    /// Processors that may be used.
    pub cores: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Linux's version.
    pub kernel: String,
    /// The file system under the servers' data.
    pub file_system: String,
}

const UNKNOWN: &str = "unknown";

impl Machine {
    /// This machine, with data in `folder`.
    pub fn here(folder: &Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory_kib =
            field("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok());
        Self {
            commit: output("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| UNKNOWN.to_owned()),
            cores,
            memory_bytes: memory_kib.unwrap_or(0_u64) * 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| UNKNOWN.to_owned(), |text| text.trim().to_owned()),
            file_system: output("stat", &["--file-system", "--format=%T", &folder.to_string_lossy()]),
        }
    }

    /// In a line, for people.
    pub fn line(&self) -> String {
        let gib = self.memory_bytes >> 30;
        format!(
            "commit {}; {} × {}, {gib} GiB, Linux {}, {}",
            self.commit, self.cores, self.cpu, self.kernel, self.file_system
        )
    }
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (_, value) = text.lines().find(|line| line.starts_with(name))?.split_once(':')?;
    Some(value.trim().to_owned())
}

fn output(program: &str, args: &[&str]) -> String {
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}
