//! Counters, read when somebody asks. A mirror's counters mislead: they stay at their last values when it stops
//! working. What tells is whether ovs-vswitchd fills them again after they were emptied: it does so for a working
//! mirror within its update interval, five seconds unless `other_config:stats-update-interval` says more.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Switch, Vswitch};
use crate::ovsdb::{Class, Datum, Deadline, Error, Monitor, Options, Session, Target, Txn, View};

/// Whether a mirror copies frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorHealth {
    /// ovs-vswitchd counts for it.
    Active {
        /// Frames copied, since it last became active.
        tx_packets: i64,
        /// Bytes copied.
        tx_bytes: i64,
    },
    /// It was left empty: no output, an output on another bridge, one mirror too many, or ovs-vswitchd is not running.
    Inactive {
        /// How long we waited.
        after: Duration,
    },
}

/// Counters could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("reading statistics of {object} failed")]
pub struct StatisticsError {
    object: String,
    #[source]
    source: Error,
}

impl StatisticsError {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> Class {
        self.source.class()
    }
}

impl Vswitch {
    /// How long ovs-vswitchd may take to fill counters that were emptied, with a second to spare.
    #[must_use]
    pub fn statistics_interval(&self) -> Duration {
        let configured = self.other_config.get("stats-update-interval").and_then(|text| text.parse().ok());
        Duration::from_millis(configured.unwrap_or(5_000_u64).max(5_000)) + Duration::from_secs(1)
    }

    /// The number of the last configuration that ovs-vswitchd has carried out, straight from a view.
    pub(super) fn config(view: &View) -> Option<i64> {
        let (_, row) = view.table("Open_vSwitch")?.rows().next()?;
        row.get("cur_cfg")?.scalar()?.as_integer()
    }
}

impl Switch {
    /// The counters of one row of Interface or Mirror, as last written by ovs-vswitchd.
    ///
    /// # Errors
    /// [`StatisticsError`]; a conflict if the row is gone.
    pub async fn statistics(
        &self,
        target: Target,
        deadline: Deadline,
    ) -> Result<BTreeMap<String, i64>, StatisticsError> {
        let object = target.to_string();
        let row = self.session().read(target, &["statistics"], deadline).await;
        let row = row.map_err(|source| StatisticsError { object, source })?;
        Ok(row.get("statistics").map(counters).unwrap_or_default())
    }

    /// Empties a mirror's counters and sees whether they are filled again. Writes to the row, so the target should
    /// carry our owner key as a condition. Takes up to [`Vswitch::statistics_interval`].
    ///
    /// # Errors
    /// [`StatisticsError`]; a conflict if the row is gone or not ours.
    pub async fn probe_mirror(
        &self,
        target: Target,
        patience: Duration,
        deadline: Deadline,
    ) -> Result<MirrorHealth, StatisticsError> {
        let (object, uuid) = (target.to_string(), target.uuid());
        let failed = |source| StatisticsError { object: object.clone(), source };
        // A session of its own, because the main one does not follow counters.
        let monitor = Monitor::new(super::DATABASE).table("Mirror", &["statistics"], &[]);
        let watcher = Session::start(self.session().remote().clone(), monitor, Options::default());
        watcher.synced(deadline).await.map_err(failed)?;
        let mut txn = Txn::new("portwright", "probe a mirror by emptying its counters");
        txn.update(target, [("statistics", Datum::empty_map().into())]);
        watcher.commit(&txn, deadline).await.map_err(failed)?;
        let filled = |view: &View| {
            let statistics = view.row("Mirror", uuid)?.get("statistics")?;
            (!statistics.is_empty()).then(|| counters(statistics))
        };
        let until = Deadline::after(patience.min(deadline.remaining()));
        match watcher.wait_for("ovs-vswitchd filling the counters", until, filled).await {
            Ok(counters) => {
                let of = |name: &str| counters.get(name).copied().unwrap_or_default();
                Ok(MirrorHealth::Active { tx_packets: of("tx_packets"), tx_bytes: of("tx_bytes") })
            }
            Err(Error::DidNotHappen { within, .. }) => Ok(MirrorHealth::Inactive { after: within }),
            Err(source) => Err(failed(source)),
        }
    }
}

fn counters(statistics: &Datum) -> BTreeMap<String, i64> {
    let pairs = statistics.pairs().iter();
    pairs.filter_map(|(name, count)| Some((name.as_str()?.to_owned(), count.as_integer()?))).collect()
}
