//! Are ovsdb-server and ovs-vswitchd alive, and how fast? Both are asked separately: a stopped ovs-vswitchd leaves the
//! database working and everything in it looking well.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::ovsdb::{Deadline, Error, Link, Session};
use crate::unixctl::{Unixctl, UnixctlError};
use crate::vswitch::Vswitch;

/// The answer of both daemons.
#[derive(Debug)]
pub struct Liveness {
    /// ovsdb-server.
    pub ovsdb: Result<OvsdbAlive, Error>,
    /// ovs-vswitchd.
    pub vswitchd: Result<VswitchdAlive, UnixctlError>,
    /// What the database says about the two; none if it could not be read.
    pub backlog: Option<Backlog>,
}

/// ovsdb-server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OvsdbAlive {
    /// How long an echo took.
    pub round_trip: Duration,
    /// Changes when the server restarts.
    pub server_id: Option<String>,
    /// The version of the database's schema.
    pub schema_version: String,
}

/// ovs-vswitchd answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VswitchdAlive {
    /// How long the command `version` took, connecting included.
    pub round_trip: Duration,
    /// What it answered.
    pub version: String,
}

/// Configurations asked for and carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// The last one asked for.
    pub next_cfg: i64,
    /// The last one carried out.
    pub cur_cfg: i64,
}

impl Liveness {
    /// Whether both answer. A backlog alone is no fault: somebody may be asking just now.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.ovsdb.is_ok() && self.vswitchd.is_ok()
    }
}

/// Asks both daemons, at the same time. `run_directory` is where the control sockets are, usually the folder of the
/// database's socket.
pub async fn ping(session: &Session, run_directory: &Path, deadline: Deadline) -> Liveness {
    let (ovsdb, vswitchd) =
        tokio::join!(ping_ovsdb(session, deadline), ping_vswitchd(run_directory, deadline));
    let backlog = session.state().view.as_ref().and_then(|view| Vswitch::read(view).ok());
    let backlog = backlog.map(|switch| Backlog { next_cfg: switch.next_cfg, cur_cfg: switch.cur_cfg });
    Liveness { ovsdb, vswitchd, backlog }
}

async fn ping_ovsdb(session: &Session, deadline: Deadline) -> Result<OvsdbAlive, Error> {
    let round_trip = session.echo(deadline).await?;
    let state = session.state();
    let server_id = match &state.link {
        Link::Up { server_id, .. } => server_id.clone(),
        Link::Down { .. } => None,
    };
    let schema_version = state.view.as_ref().map(|view| view.schema().version.clone()).unwrap_or_default();
    Ok(OvsdbAlive { round_trip, server_id, schema_version })
}

async fn ping_vswitchd(run_directory: &Path, deadline: Deadline) -> Result<VswitchdAlive, UnixctlError> {
    let start = Instant::now();
    let version = Unixctl::of_vswitchd(run_directory).await?.version(deadline).await?;
    Ok(VswitchdAlive { round_trip: start.elapsed(), version })
}
