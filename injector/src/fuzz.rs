//! Fuzz targets: everything that bytes from outside can reach before the API server has judged them.
//!
//! Safe functions that must neither panic nor hang, whatever they are given. What they assert beyond that is what the
//! rest of the injector relies on.

use crate::mutate::{self, Networks, Settings};
use crate::pod::Pod;
use crate::switches::{Existing, Injections, Switches};
use crate::{quantity, review, selection};

/// The value of a network annotation, both forms. Names that come through are safe in a URL.
#[allow(clippy::panic, reason = "a fuzz target reports by panicking")]
pub fn annotation(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(selection) = selection::parse(text) else { return };
    for element in selection.elements {
        let safe = selection::is_subdomain(&element.name)
            && (element.namespace.is_empty() || selection::is_label(&element.namespace));
        if !safe {
            panic!("{element:?} came through");
        }
    }
}

/// A request body: envelope, pod, decision, patch. Every patch must apply to the pod it was made for.
#[allow(clippy::panic, reason = "a fuzz target reports by panicking")]
pub fn body(data: &[u8]) {
    let Ok(request) = review::parse(data) else { return };
    let Some(object) = request.object else { return };
    let Ok(pod) = Pod::from_json(object.get()) else { return };
    for existing in [Existing::Skip, Existing::TopUp, Existing::Add] {
        let switches = Switches { hugepages: true, existing, injections: Injections::new() };
        let settings = settings();
        let Ok(wish) = mutate::read(&pod, &request.namespace, &switches, &settings) else { continue };
        let resources = ["example.com/foo".into(), "a.b/c~d".into()];
        let network = mutate_network(&resources);
        let known: Networks = wish
            .networks()
            .into_iter()
            .map(|name| (name.clone(), Some(std::sync::Arc::clone(&network))))
            .collect();
        let Ok(mutation) = mutate::inject(&pod, wish, &known, &switches, &settings) else { continue };
        // A pod whose metadata or spec is missing altogether has nothing that a patch could hang on.
        if let Err(error) = mutate::encode_checked(&pod, &mutation.patch) {
            panic!("{error}: {:?}", mutation.patch);
        }
    }
}

/// A quantity.
pub fn amount(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        // Only whether they come back is of interest.
        std::hint::black_box((quantity::whole(text), quantity::is_zero(text)));
    }
}

fn mutate_network(resources: &[Box<str>]) -> std::sync::Arc<crate::nad::Network> {
    std::sync::Arc::new(crate::nad::Network {
        resources: resources.to_vec().into(),
        selector: vec![("disk".into(), "ssd".into())].into(),
        problem: None,
    })
}

fn settings() -> Settings {
    Settings {
        multus_namespace: "kube-system".to_owned(),
        default_network_in_pod_namespace: false,
        isolation: None,
        sidecars: Vec::new(),
        tolerate_missing: false,
        podnetinfo: true,
    }
}
