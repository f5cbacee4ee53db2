//! Checks of `spec.pools`: names and prefixes that kubelet will take.

use crate::check::{Errors, Unique};
use crate::names;
use crate::policy::Pool;

/// Everything wrong with the pools of a policy.
pub(super) fn check_all(pools: &[Pool], errors: &mut Errors) {
    let mut taken = Unique::default();
    for (index, pool) in pools.iter().enumerate() {
        let path = format!("spec.pools[{index}].name");
        errors.rule(path.clone(), names::qualified_part(&pool.name));
        taken.take(&pool.name, &path, errors);
        if let Some(prefix) = &pool.prefix {
            errors.rule(format!("spec.pools[{index}].prefix"), names::resource_prefix(prefix));
        }
    }
}
