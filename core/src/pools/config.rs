//! sriov-network-device-plugin's `config.json`, taken as it is.
//!
//! Its dialect: object keys match whatever their case, unknown keys are ignored, the last of equal keys wins, a selector may
//! be an object or a list of objects. A mistake in the file's frame refuses the whole file; a mistake inside the selectors of
//! one pool refuses that pool with a warning, as its users are used to.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::selector::{DeviceSelector, FunctionRange, VdpaType};
use crate::id::ParseError;

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
    let value: Value = serde_json::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
    let top = object(&value, "(top level)")?;
    let list = match get(top, "resourceList") {
        None | Some(Value::Null) => return Err(refuse("resourceList", "is missing; it is the list of pools")),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(refuse("resourceList", format!("expected a list, found {}", kind(other)))),
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
    Ok(config)
}

fn pool(value: &Value, path: &str) -> Result<(ConfigPool, Vec<String>), ConfigError> {
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
    let pool = ConfigPool {
        name,
        prefix: string(map, "resourcePrefix", path)?.filter(|prefix| !prefix.is_empty()),
        device_type,
        exclude_topology: boolean(map, "excludeTopology", path)?.unwrap_or(false),
        selectors,
        additional_info: additional_info(map, path)?,
    };
    Ok((pool, warnings))
}

/// The selectors of a pool. What is wrong in their shape makes the pool empty, with a warning; combinations that can
/// never be right refuse the file.
fn selectors(
    map: &Map<String, Value>,
    path: &str,
    device_type: DeviceType,
    warnings: &mut Vec<String>,
) -> Result<Vec<DeviceSelector>, ConfigError> {
    let path = format!("{path}.selectors");
    let empty = Value::Object(Map::new());
    let (values, listed): (Vec<&Value>, bool) = match get(map, "selectors") {
        None | Some(Value::Null) => (vec![&empty], false),
        Some(Value::Array(list)) => (list.iter().collect(), true),
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
            return Err(refuse(format!("{path}.auxTypes"), "an auxNetDevice pool needs it, and `sf` is its only value"));
        }
    }
    Ok(())
}

fn selector(value: &Value, path: &str, warnings: &mut Vec<String>) -> Result<DeviceSelector, ConfigError> {
    let map = object(value, path)?;
    let ranges = |key: &str, warnings: &mut Vec<String>| -> Result<Vec<FunctionRange>, ConfigError> {
        let texts = strings(map, key, path)?;
        let mut ranges: Vec<FunctionRange> = Vec::new();
        for text in texts {
            match text.parse::<FunctionRange>() {
                Ok(range) => unite(&mut ranges, range, &format!("{path}.{key}"), warnings),
                Err(error) => warnings.push(format!("`{path}.{key}`: {error}; the entry selects nothing")),
            }
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
        is_rdma: boolean(map, "isRdma", path)?.unwrap_or(false),
        need_vhost_net: boolean(map, "needVhostNet", path)?.unwrap_or(false),
        vdpa_type: vdpa.map(|text| VdpaType::read(&text)),
        has_pf_names: get(map, "pfNames").is_some_and(|value| value.as_array().is_some_and(|list| !list.is_empty())),
        has_root_devices: get(map, "rootDevices")
            .is_some_and(|value| value.as_array().is_some_and(|list| !list.is_empty())),
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

fn additional_info(map: &Map<String, Value>, path: &str) -> Result<AdditionalInfo, ConfigError> {
    let path = format!("{path}.additionalInfo");
    let Some(value) = get(map, "additionalInfo").filter(|value| !value.is_null()) else {
        return Ok(AdditionalInfo::new());
    };
    let mut info = AdditionalInfo::new();
    for (device, value) in object(value, &path)? {
        let path = format!("{path}.{device}");
        let entries = match value {
            Value::Null => BTreeMap::new(),
            value => object(value, &path)?
                .iter()
                .map(|(key, value)| match value {
                    Value::String(text) => Ok((key.clone(), text.clone())),
                    other => Err(refuse(format!("{path}.{key}"), format!("expected a string, found {}", kind(other)))),
                })
                .collect::<Result<_, _>>()?,
        };
        info.insert(device.clone(), entries);
    }
    Ok(info)
}

/// A key in any case; an exact match first.
fn get<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).or_else(|| map.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value))
}

fn object<'a>(value: &'a Value, path: &str) -> Result<&'a Map<String, Value>, ConfigError> {
    value.as_object().ok_or_else(|| refuse(path, format!("expected an object, found {}", kind(value))))
}

fn string(map: &Map<String, Value>, key: &str, path: &str) -> Result<Option<String>, ConfigError> {
    match get(map, key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(refuse(format!("{path}.{key}"), format!("expected a string, found {}", kind(other)))),
    }
}

fn boolean(map: &Map<String, Value>, key: &str, path: &str) -> Result<Option<bool>, ConfigError> {
    match get(map, key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(other) => {
            Err(refuse(format!("{path}.{key}"), format!("expected true or false, found {}", kind(other))))
        }
    }
}

fn strings(map: &Map<String, Value>, key: &str, path: &str) -> Result<Vec<String>, ConfigError> {
    let path = format!("{path}.{key}");
    match get(map, key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => list
            .iter()
            .enumerate()
            .map(|(index, value)| match value {
                Value::String(text) => Ok(text.clone()),
                other => Err(refuse(format!("{path}[{index}]"), format!("expected a string, found {}", kind(other)))),
            })
            .collect(),
        Some(other) => Err(refuse(path, format!("expected a list of strings, found {}", kind(other)))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl std::str::FromStr for FunctionRange {
    type Err = ParseError;

    /// `p0` (all functions) or `p0#0-3,7`. An index list is read as a whole: a mistake in it is never half obeyed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse =
            || ParseError { text: text.to_owned(), expected: "a PF with function numbers such as `ens1f0#0-3,7`" };
        let Some((name, list)) = text.split_once('#') else {
            return Ok(FunctionRange { name: text.to_owned(), indexes: None });
        };
        let mut runs = Vec::new();
        for item in list.split(',') {
            let number = |digits: &str| {
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                plain.then(|| digits.parse::<u32>().ok()).flatten().ok_or_else(refuse)
            };
            let (first, last) = match item.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(item)?, number(item)?),
            };
            if first > last {
                return Err(refuse());
            }
            runs.push((first, last));
        }
        Ok(FunctionRange { name: name.to_owned(), indexes: Some(runs) })
    }
}
