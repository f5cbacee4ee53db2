//! sriov-network-device-plugin's `config.json`, taken as it is.
//!
//! Its dialect: object keys match whatever their case, unknown keys are ignored, the last of equal keys wins, a selector may
//! be an object or a list of objects. A mistake in the file's frame refuses the whole file; a mistake inside the selectors of
//! one pool refuses that pool with a warning, as its users are used to.

use std::collections::BTreeMap;

use super::json::{Json, Object};
use super::range::FunctionRange;
use super::selector::{DeviceSelector, VdpaType};

/// Further key-value pairs of a device: device key (or `*`) to names and values.
pub type AdditionalInfo = BTreeMap<String, BTreeMap<String, String>>;

/// A whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginConfig {
    /// Pools in the order of the file.
    pub pools: Vec<ConfigPool>,
    /// What was refused or united, for the log.
    pub warnings: Vec<String>,
}

/// One entry of `resourceList`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigPool {
    /// Where it is in the file (`resourceList[0]`).
    pub path: String,
    /// `resourceName`.
    pub name: String,
    /// `resourcePrefix`; absent means the command line's.
    pub prefix: Option<String>,
    /// `deviceType`.
    pub device_type: DeviceType,
    /// `excludeTopology`.
    pub exclude_topology: bool,
    /// `selectors`; a device is taken by the first that matches.
    pub selectors: Vec<DeviceSelector>,
    /// `additionalInfo`.
    pub additional_info: AdditionalInfo,
}

/// `deviceType`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceType {
    /// PCI functions of class 02.
    #[default]
    NetDevice,
    /// PCI functions of class 12.
    Accelerator,
    /// Auxiliary sub-functions of PCI functions of class 02.
    AuxNetDevice,
}

impl DeviceType {
    /// As the file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            DeviceType::NetDevice => "netDevice",
            DeviceType::Accelerator => "accelerator",
            DeviceType::AuxNetDevice => "auxNetDevice",
        }
    }
}

/// Why a file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON; the message holds line and column.
    #[error("not JSON: {0}")]
    Syntax(String),
    /// A field is not what it should be.
    #[error("`{path}`: {what}")]
    Field {
        /// Path of the field, such as `resourceList[0].resourceName`.
        path: String,
        /// What was expected and found.
        what: String,
    },
}

fn refuse(path: impl Into<String>, what: impl Into<String>) -> ConfigError {
    ConfigError::Field { path: path.into(), what: what.into() }
}

/// Reads a file. `default_prefix` is what pools without a prefix get; it matters for duplicate names.
pub fn parse(text: &str, default_prefix: &str) -> Result<PluginConfig, ConfigError> {
    let value: Json = serde_json::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
    let top = object(&value, "(top level)")?;
    let list = match top.get("resourceList") {
        None => return Err(refuse("resourceList", "is missing; it is the list of pools")),
        Some(Json::Array(list)) => list,
        Some(other) => {
            return Err(refuse("resourceList", format!("expected a list, found {}", other.kind())));
        }
    };
    let mut config = PluginConfig::default();
    let mut seen: BTreeMap<(String, String), String> = BTreeMap::new();
    for (index, value) in list.iter().enumerate() {
        let path = format!("resourceList[{index}]");
        let (pool, mut warnings) = pool(value, &path)?;
        config.warnings.append(&mut warnings);
        let key = (pool.prefix.clone().unwrap_or_else(|| default_prefix.to_owned()), pool.name.clone());
        if let Some(first) = seen.insert(key, path.clone()) {
            return Err(refuse(
                format!("{path}.resourceName"),
                format!("`{}` is already the name of {first} under the same prefix", pool.name),
            ));
        }
        config.pools.push(pool);
    }
    if config.pools.iter().all(|pool| pool.selectors.is_empty()) {
        return Err(refuse("resourceList", no_pool(&config)));
    }
    Ok(config)
}

/// No pool is left: why.
fn no_pool(config: &PluginConfig) -> String {
    match config.warnings.as_slice() {
        [] => "holds no pool".to_owned(),
        warnings => format!("holds no pool that can be used: {}", warnings.join("; ")),
    }
}

/// A DNS subdomain, or kubelet refuses the resource.
pub fn check_prefix(prefix: &str) -> Result<(), String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let part = |part: &str| {
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    if prefix.len() <= 244 && prefix.split('.').all(part) {
        return Ok(());
    }
    Err(format!("`{prefix}` is no domain such as `intel.com`, in lower case"))
}

fn pool(value: &Json, path: &str) -> Result<(ConfigPool, Vec<String>), ConfigError> {
    let map = object(value, path)?;
    let name_path = format!("{path}.resourceName");
    let name = string(map, "resourceName", path)?.ok_or_else(|| refuse(&name_path, "is missing"))?;
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || !name.chars().all(legal) {
        return Err(refuse(name_path, format!("`{name}` may hold letters, digits, `_` and `-` only")));
    }
    let device_type = match string(map, "deviceType", path)?.as_deref() {
        None | Some("" | "netDevice") => DeviceType::NetDevice,
        Some("accelerator") => DeviceType::Accelerator,
        Some("auxNetDevice") => DeviceType::AuxNetDevice,
        Some(other) => {
            let what = format!("`{other}` is not one of netDevice, accelerator, auxNetDevice");
            return Err(refuse(format!("{path}.deviceType"), what));
        }
    };
    let mut warnings = Vec::new();
    let selectors = selectors(map, path, device_type, &mut warnings)?;
    let prefix = string(map, "resourcePrefix", path)?.filter(|prefix| !prefix.is_empty());
    if let Some(prefix) = &prefix {
        check_prefix(prefix).map_err(|what| refuse(format!("{path}.resourcePrefix"), what))?;
    }
    let pool = ConfigPool {
        path: path.to_owned(),
        name,
        prefix,
        device_type,
        exclude_topology: boolean(map, "excludeTopology", path)?,
        selectors,
        additional_info: additional_info(map, path)?,
    };
    Ok((pool, warnings))
}

/// The selectors of a pool. What is wrong in their shape makes the pool empty, with a warning; combinations that can
/// never be right refuse the file.
fn selectors(
    map: &Object,
    path: &str,
    device_type: DeviceType,
    warnings: &mut Vec<String>,
) -> Result<Vec<DeviceSelector>, ConfigError> {
    let path = format!("{path}.selectors");
    let empty = Json::Object(Object::default());
    let (values, listed): (Vec<&Json>, bool) = match map.get("selectors") {
        None => (vec![&empty], false),
        Some(Json::Array(list)) => (list.iter().collect(), true),
        Some(value) => (vec![value], false),
    };
    if values.is_empty() {
        warnings.push(format!("`{path}` is an empty list: the pool gets no device"));
    }
    let mut selectors = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        let path = if listed { format!("{path}[{index}]") } else { path.clone() };
        match selector(value, &path, warnings) {
            Ok(selector) => {
                check(&selector, device_type, &path)?;
                selectors.push(selector);
            }
            Err(error) => {
                warnings.push(format!("{error}: the pool gets no device"));
                return Ok(Vec::new());
            }
        }
    }
    Ok(selectors)
}

/// Combinations that can never be right.
fn check(selector: &DeviceSelector, device_type: DeviceType, path: &str) -> Result<(), ConfigError> {
    if selector.is_rdma && selector.vdpa_type.is_some() {
        return Err(refuse(path, "`isRdma` and `vdpaType` exclude each other"));
    }
    if device_type == DeviceType::AuxNetDevice {
        let types = &selector.aux_types;
        if types.is_empty() || types.iter().any(|kind| kind != "sf") {
            return Err(refuse(
                format!("{path}.auxTypes"),
                "an auxNetDevice pool needs it, and `sf` is its only value",
            ));
        }
    }
    Ok(())
}

fn selector(value: &Json, path: &str, warnings: &mut Vec<String>) -> Result<DeviceSelector, ConfigError> {
    let map = object(value, path)?;
    let ranges = |key: &str, warnings: &mut Vec<String>| -> Result<Vec<FunctionRange>, ConfigError> {
        let texts = strings(map, key, path)?;
        let mut ranges: Vec<FunctionRange> = Vec::new();
        for text in texts {
            let (range, mistake) = FunctionRange::read(&text);
            warnings.extend(mistake.map(|mistake| format!("`{path}.{key}`: {mistake}")));
            unite(&mut ranges, range, &format!("{path}.{key}"), warnings);
        }
        Ok(ranges)
    };
    let vdpa = string(map, "vdpaType", path)?.filter(|text| !text.is_empty());
    Ok(DeviceSelector {
        vendors: strings(map, "vendors", path)?,
        devices: strings(map, "devices", path)?,
        drivers: strings(map, "drivers", path)?,
        pci_addresses: strings(map, "pciAddresses", path)?,
        acpi_indexes: strings(map, "acpiIndexes", path)?,
        aux_types: strings(map, "auxTypes", path)?,
        pf_names: ranges("pfNames", warnings)?,
        root_devices: ranges("rootDevices", warnings)?,
        link_types: strings(map, "linkTypes", path)?,
        ddp_profiles: strings(map, "ddpProfiles", path)?,
        p_keys: strings(map, "pKeys", path)?,
        is_rdma: boolean(map, "isRdma", path)?,
        need_vhost_net: boolean(map, "needVhostNet", path)?,
        vdpa_type: vdpa.map(|text| VdpaType::read(&text)),
    })
}

/// Repeated entries of one PF unite; the original looks at the first only.
fn unite(ranges: &mut Vec<FunctionRange>, range: FunctionRange, path: &str, warnings: &mut Vec<String>) {
    match ranges.iter_mut().find(|there| there.name.eq_ignore_ascii_case(&range.name)) {
        Some(there) => {
            warnings.push(format!("`{path}` names {} more than once: the ranges are united", range.name));
            there.unite(range);
        }
        None => ranges.push(range),
    }
}

fn additional_info(map: &Object, path: &str) -> Result<AdditionalInfo, ConfigError> {
    let path = format!("{path}.additionalInfo");
    let Some(value) = map.get("additionalInfo") else { return Ok(AdditionalInfo::new()) };
    let mut info = AdditionalInfo::new();
    for (device, value) in object(value, &path)?.entries() {
        let path = format!("{path}.{device}");
        let mut entries = BTreeMap::new();
        if *value != Json::Null {
            for (key, value) in object(value, &path)?.entries() {
                let text =
                    value.text().ok_or_else(|| expected(format!("{path}.{key}"), "a string", value))?;
                entries.insert(key.to_owned(), text.to_owned());
            }
        }
        info.insert(device.to_owned(), entries);
    }
    Ok(info)
}

fn expected(path: impl Into<String>, what: &str, found: &Json) -> ConfigError {
    refuse(path, format!("expected {what}, found {}", found.kind()))
}

fn object<'a>(value: &'a Json, path: &str) -> Result<&'a Object, ConfigError> {
    value.object().ok_or_else(|| expected(path, "an object", value))
}

fn string(map: &Object, key: &str, path: &str) -> Result<Option<String>, ConfigError> {
    let Some(value) = map.get(key) else { return Ok(None) };
    let text = value.text().ok_or_else(|| expected(format!("{path}.{key}"), "a string", value))?;
    Ok(Some(text.to_owned()))
}

fn boolean(map: &Object, key: &str, path: &str) -> Result<bool, ConfigError> {
    match map.get(key) {
        None => Ok(false),
        Some(Json::Bool(value)) => Ok(*value),
        Some(other) => Err(expected(format!("{path}.{key}"), "true or false", other)),
    }
}

fn strings(map: &Object, key: &str, path: &str) -> Result<Vec<String>, ConfigError> {
    let path = format!("{path}.{key}");
    let Some(value) = map.get(key) else { return Ok(Vec::new()) };
    let Json::Array(list) = value else { return Err(expected(path, "a list of strings", value)) };
    let one = |(index, value): (usize, &Json)| {
        let text = value.text().ok_or_else(|| expected(format!("{path}[{index}]"), "a string", value))?;
        Ok(text.to_owned())
    };
    list.iter().enumerate().map(one).collect()
}
