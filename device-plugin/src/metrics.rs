//! What Prometheus is told of the pools.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use portwright_core::pools::ResourceName;
use portwright_host::deadline::unix_seconds;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Label `resource`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Resource {
    resource: String,
}

type Gauges = Family<Resource, Gauge>;
type Counters = Family<Resource, Counter<u64, AtomicU64>>;

/// Metrics of all pools. Clones are the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    devices: Gauges,
    healthy: Gauges,
    allocated: Gauges,
    registrations: Counters,
    failed_registrations: Counters,
    failed_allocations: Counters,
    contact: Gauges,
    allocate: Family<Resource, Histogram, fn() -> Histogram>,
}

fn buckets() -> Histogram {
    Histogram::new([0.0001, 0.0005, 0.001, 0.005, 0.01, 0.1, 1.0, 10.0])
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            devices: Family::default(),
            healthy: Family::default(),
            allocated: Family::default(),
            registrations: Family::default(),
            failed_registrations: Family::default(),
            failed_allocations: Family::default(),
            contact: Family::default(),
            allocate: Family::new_with_constructor(buckets),
        }
    }
}

impl Metrics {
    /// Puts them into a registry that prefixes `portwright_`.
    pub fn register(&self, registry: &mut Registry) {
        let gauges = [
            ("pool_devices", "Devices of the pool", &self.devices),
            ("pool_healthy_devices", "Devices of the pool that can be used", &self.healthy),
            ("pool_allocated_devices", "Devices of the pool that pods have", &self.allocated),
            ("pool_last_kubelet_contact_seconds", "When kubelet last called, in Unix time", &self.contact),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        let counters = [
            ("pool_registrations", "Registrations with kubelet", &self.registrations),
            ("pool_failed_registrations", "Registrations that failed", &self.failed_registrations),
            ("pool_failed_allocations", "Allocate calls answered with an error", &self.failed_allocations),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let help = "Time to answer Allocate, in seconds";
        registry.register("pool_allocate_seconds", help, self.allocate.clone());
    }

    /// Shows a pool's counters with 0 before anything was counted: a first failure is then an increase.
    pub fn begin(&self, resource: &ResourceName) {
        for gauge in [&self.devices, &self.healthy, &self.allocated, &self.contact] {
            drop(gauge.get_or_create(&of(resource)));
        }
        for counter in [&self.registrations, &self.failed_registrations, &self.failed_allocations] {
            drop(counter.get_or_create(&of(resource)));
        }
        drop(self.allocate.get_or_create(&of(resource)));
    }

    pub(crate) fn size(&self, resource: &ResourceName, devices: usize, healthy: usize) {
        self.devices.get_or_create(&of(resource)).set(count(devices));
        self.healthy.get_or_create(&of(resource)).set(count(healthy));
    }

    pub(crate) fn allocated(&self, resource: &ResourceName, devices: usize) {
        self.allocated.get_or_create(&of(resource)).set(count(devices));
    }

    pub(crate) fn registered(&self, resource: &ResourceName) {
        self.registrations.get_or_create(&of(resource)).inc();
    }

    pub(crate) fn registration_failed(&self, resource: &ResourceName) {
        self.failed_registrations.get_or_create(&of(resource)).inc();
    }

    pub(crate) fn contact(&self, resource: &ResourceName) {
        self.contact.get_or_create(&of(resource)).set(i64::try_from(unix_seconds()).unwrap_or(i64::MAX));
    }

    pub(crate) fn allocate(&self, resource: &ResourceName, took: Duration, good: bool) {
        self.allocate.get_or_create(&of(resource)).observe(took.as_secs_f64());
        if !good {
            self.failed_allocations.get_or_create(&of(resource)).inc();
        }
    }

    /// Forgets a pool that is served no more.
    pub(crate) fn forget(&self, resource: &ResourceName) {
        for gauge in [&self.devices, &self.healthy, &self.allocated, &self.contact] {
            gauge.remove(&of(resource));
        }
    }
}

fn of(resource: &ResourceName) -> Resource {
    Resource { resource: resource.to_string() }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
