//! A PF that no policy lists any more: the VFs that we made on it are removed as soon as nobody uses them. It asks nobody's
//! leave: there is no policy whose `disruption` or `maxUnavailable` could count.

use super::{Context, Held, Plan, Subject, in_no_policy};
use crate::blocked::{Blocked, Reason};
use crate::id::{Object, VfRef};
use crate::observed::Pf;
use crate::profile::{Configure, Profiles};
use crate::step::{Change, Disruption, Step};
use crate::usage::{Use, uses};

/// Plans the removal of VFs, or says what it waits for.
pub(super) fn release(context: &Context<'_>, pf: &Pf, profiles: &Profiles, plan: &mut Plan) {
    let how = profiles.find(pf).0.and_then(|profile| profile.configure.as_ref()).map(|how| how.value);
    // Where the kernel's file makes no VFs, these are somebody else's, whatever the journal says.
    let removable = matches!(how, None | Some(Configure::Sysfs));
    if !pf.made_by_us || pf.vfs.is_empty() || pf.driver.is_none() || !removable {
        return;
    }
    let object = Object::Pci(pf.address);
    let change = Change::SetNumVfs { from: pf.num_vfs(), to: 0 };
    match obstacle(context, pf) {
        Some((blocked, held)) => {
            plan.blocked.push(blocked);
            plan.held.extend(held);
        }
        None => {
            plan.steps.push(Step { object: object.clone(), change, disruption: Disruption::Pf, force: false })
        }
    }
    let note = "no policy lists it any more, and its VFs were made by portwright".to_owned();
    match plan.subjects.iter_mut().find(|subject| subject.object == object) {
        Some(Subject { notes, .. }) => notes.push(note),
        None => plan.subjects.push(in_no_policy(pf, note)),
    }
}

fn obstacle(context: &Context<'_>, pf: &Pf) -> Option<(Blocked, Option<Held>)> {
    let object = Object::Pci(pf.address);
    let keep = "nothing has to be done; list the port in a policy again to keep its VFs";
    let blocked = |reason, what: String, hint: &str| (Blocked::new(object.clone(), reason, what, hint), None);
    if let Some(stuck) = &pf.stuck {
        let hint = "find and end what holds its VFs; a reboot is the last resort";
        return Some(blocked(Reason::Stuck, stuck.clone(), hint));
    }
    if let Some(stuck) = context.stuck {
        let what =
            format!("a write on {stuck} has not returned and holds a lock that every such write needs");
        return Some(blocked(Reason::Stuck, what, "wait until that write has returned"));
    }
    let of_vf = || pf.vfs.iter().find_map(|vf| Some((vf.index, context.management.why(vf.address)?)));
    let on_path = match context.management.why_pf(pf.address) {
        Some(why) => Some(format!("{} {why}", pf.name.as_deref().unwrap_or("it"))),
        None => of_vf().map(|(index, why)| format!("VF {index} {why}")),
    };
    if let Some(why) = on_path {
        let what = format!("{why}; removing its VFs could cut the node off");
        let hint = "move the node's own traffic to another port, or list the port in a policy again";
        return Some(blocked(Reason::ManagementPath, what, hint));
    }
    let used: Vec<(VfRef, Vec<Use>)> = pf
        .vfs
        .iter()
        .map(|vf| VfRef { pf: pf.address, index: vf.index })
        .map(|vf| (vf, uses(context.observed, vf)))
        .filter(|(_, uses)| !uses.is_empty())
        .collect();
    let (first, found) = used.first().and_then(|(vf, uses)| Some((vf, uses.first()?)))?;
    let more = if used.len() == 1 { String::new() } else { ", and others likewise".to_owned() };
    let what = format!("{} of {} VFs in use: VF {} {found}{more}", used.len(), pf.vfs.len(), first.index);
    let (blocked, _) = blocked(Reason::Releasing, what, keep);
    Some((blocked, Some(Held { object, vfs: used.iter().map(|(vf, _)| *vf).collect() })))
}
