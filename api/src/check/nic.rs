//! Checks of `spec.nics` that span several fields. Single values (ranges, patterns, addresses) are refused where they are
//! parsed, in [`crate::convert`]; this module asks it for them so that one rule has one place.

use crate::check::Errors;
use crate::convert;
use crate::policy::Nic;

pub(super) fn check(nic: &Nic, path: &str, errors: &mut Errors) {
    // The conversion is the check: what converts is right.
    convert::nic(nic, path, errors);
}
