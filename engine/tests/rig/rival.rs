//! Copies of a node's data directory, and processes on them: what an operator does who restores the wrong backup.

use std::fs;
use std::path::Path;

use sluice_engine::child::{Launch, ServerProcess, free_address};

use super::{ClusterRig, PATIENCE, copy_dir};

/// A node's data directory as it was, with a place for a process of its own.
pub struct Copy {
    pub launch: Launch,
}

impl Copy {
    /// Of a node that does not run.
    pub fn of(rig: &ClusterRig, id: u64, name: &str) -> Self {
        let original = rig.cluster.node(id).launch();
        let data = rig.dir.path().join(name);
        copy_dir(&original.data, &data);
        let mut launch = Launch {
            data,
            log: rig.dir.path().join(format!("{name}.log")),
            listen: free_address().unwrap(),
            ..original.clone()
        };
        let at = launch.flags.iter().position(|flag| flag == "--peer-listen").unwrap();
        launch.flags[at + 1] = free_address().unwrap().to_string();
        Self { launch }
    }

    /// Puts it in the node's place.
    pub fn put_back(&self, rig: &ClusterRig, id: u64) {
        let original = &rig.cluster.node(id).launch().data;
        fs::remove_dir_all(original).unwrap();
        copy_dir(&self.launch.data, original);
    }

    pub async fn serves(&self) -> ServerProcess {
        let mut process = ServerProcess::start(&self.launch).unwrap();
        process.ready(PATIENCE).await.unwrap_or_else(|error| panic!("{error}\n{}", self.said()));
        process
    }

    /// Starts a process that must end itself. Its exit code, and what it said.
    pub async fn is_refused(&self) -> (Option<i32>, String) {
        let said_before = self.said().len();
        let process = ServerProcess::start(&self.launch).unwrap();
        let status = process.ended(PATIENCE).await.unwrap_or_else(|error| panic!("{error}\n{}", self.said()));
        (status.code(), self.said().split_off(said_before))
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.launch.log).unwrap_or_default()
    }
}
