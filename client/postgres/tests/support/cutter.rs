//! A road to PostgreSQL that is cut behind a commit: the server has it, and whoever asked never hears.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// Part of the name of the socket.
const PORT: u16 = 5432;

/// See the module. Dropped, it is closed.
pub(crate) struct Cutter {
    folder: TempDir,
    /// Commits whose answers were lost.
    pub(crate) cuts: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Cutter {
    /// Cuts behind every second commit, `cuts_max` times.
    pub(crate) fn open(target: PathBuf, cuts_max: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(format!(".s.PGSQL.{PORT}"))).unwrap();
        let cuts = Arc::new(AtomicUsize::new(0));
        let (counted, commits) = (Arc::clone(&cuts), Arc::new(AtomicUsize::new(0)));
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = UnixStream::connect(&target).await else { continue };
                tokio::spawn(carry(near, far, Arc::clone(&commits), Arc::clone(&counted), cuts_max));
            }
        });
        Self { folder, cuts, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@/postgres?host={}&port={PORT}", self.folder.path().display())
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    mut near: UnixStream,
    mut far: UnixStream,
    commits: Arc<AtomicUsize>,
    cuts: Arc<AtomicUsize>,
    cuts_max: usize,
) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut must_cut = false;
    loop {
        tokio::select! {
            len = near.read(&mut asked) => {
                let Ok(len @ 1..) = len else { return };
                // A commit waits for all answers before it, so it is a message alone.
                if asked[..len].windows(7).any(|word| word == b"COMMIT\0") {
                    let nth = commits.fetch_add(1, Ordering::Relaxed);
                    must_cut = nth % 2 == 1 && cuts.load(Ordering::Relaxed) < cuts_max;
                }
                if far.write_all(&asked[..len]).await.is_err() {
                    return;
                }
            }
            len = far.read(&mut answered) => {
                let Ok(len @ 1..) = len else { return };
                if must_cut {
                    // The answer is here, so it is committed; and that is all anybody will know.
                    cuts.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                if near.write_all(&answered[..len]).await.is_err() {
                    return;
                }
            }
        }
    }
}
