//! The scenarios, grouped by what they show. A new one is a function and a line in its group's table.

mod calibration;
mod clock;
mod crash;
mod daemon;
mod demo;
mod devlink;
mod faults;
mod ovs;
mod pools;
mod provision;
mod refuse;
mod rig;
mod timing;

use super::Scenario;
pub(super) use super::guest::Lab;

/// All scenarios, in the order in which they run.
pub(super) fn all() -> impl Iterator<Item = Scenario> {
    let tables = [
        provision::table(),
        refuse::table(),
        faults::table(),
        crash::table(),
        calibration::table(),
        devlink::table(),
        timing::table(),
        ovs::table(),
        clock::table(),
        pools::table(),
        daemon::table(),
        rig::table(),
        demo::table(),
    ];
    tables.into_iter().flatten()
}

/// A scenario of the boot with an IOMMU.
fn iommu(name: &'static str, run: fn(&mut Lab) -> anyhow::Result<()>) -> Scenario {
    Scenario { name, boot: "iommu", long: false, run }
}

/// A scenario of the boot without an IOMMU.
fn plain(name: &'static str, run: fn(&mut Lab) -> anyhow::Result<()>) -> Scenario {
    Scenario { name, boot: "plain", long: false, run }
}
