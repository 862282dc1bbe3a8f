//! What a process uses, as Linux tells it under /proc.
//!
//! Deliberately not here: starting and stopping.

use std::collections::BTreeMap;
use std::fs;

/// A process of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pid: u32,
}

/// Fields of /proc/pid/stat behind the name in parentheses, which may itself hold spaces: user and system time.
const USER_FIELD: usize = 11;
const SYSTEM_FIELD: usize = 12;

const BYTES_PER_KIB: u64 = 1024;

const NANOS_PER_SECOND: f64 = 1e9;

impl Process {
    /// The process of this number.
    pub fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// Processor time of all its threads so far, seconds; to a hundredth. `None` if it is gone.
    pub fn cpu_seconds(&self) -> Option<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        Some((ticks(USER_FIELD)? + ticks(SYSTEM_FIELD)?) / ticks_per_second)
    }

    /// Processor time of its threads so far, by name, seconds. Threads of one name are added up. Empty if it is gone.
    pub fn threads(&self) -> BTreeMap<String, f64> {
        let mut used = BTreeMap::new();
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return used };
        for task in tasks.flatten() {
            let of = |file: &str| fs::read_to_string(task.path().join(file)).ok();
            // A thread that ends meanwhile has nothing to tell.
            let ns = of("schedstat").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
            if let (Some(name), Some(ns)) = (of("comm"), ns) {
                *used.entry(name.trim().to_owned()).or_default() += ns / NANOS_PER_SECOND;
            }
        }
        used
    }

    /// Memory that it occupies, bytes. `None` if it is gone.
    pub fn resident_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib * BYTES_PER_KIB)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something() {
        let process = Process::new(std::process::id());
        assert!(process.cpu_seconds().unwrap() >= 0.0);
        assert!(process.resident_bytes().unwrap() > 0);
        assert_eq!(Process::new(u32::MAX).cpu_seconds(), None);
    }

    #[test]
    fn a_thread_is_found_by_its_name() {
        let thread = std::thread::Builder::new().name("bench-test".to_owned());
        let here = thread.spawn(|| Process::new(std::process::id()).threads()).unwrap().join().unwrap();
        assert!(here.contains_key("bench-test"), "{here:?}");
        assert!(Process::new(u32::MAX).threads().is_empty());
    }
}
