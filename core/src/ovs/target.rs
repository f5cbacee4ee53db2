//! What a change of Open vSwitch is about, and its place in object names: `bridge/br-data`, `bridge/br-data/port/mon0`,
//! `bridge/br-data/mirror/tap-web`, `ovs`.

use std::fmt;

use crate::id::Object;

/// The switch as a whole, or a bridge, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The switch as a whole.
    Switch,
    /// A bridge by name, and which part of it.
    Bridge(String, Part),
}

/// Part of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The bridge itself.
    Itself,
    /// A port by name.
    Port(String),
    /// A mirror by name.
    Mirror(String),
}

impl Target {
    /// A bridge.
    pub fn bridge(name: &str) -> Target {
        Target::Bridge(name.to_owned(), Part::Itself)
    }

    /// A port of a bridge.
    pub fn port(bridge: &str, port: &str) -> Target {
        Target::Bridge(bridge.to_owned(), Part::Port(port.to_owned()))
    }

    /// A mirror of a bridge.
    pub fn mirror(bridge: &str, mirror: &str) -> Target {
        Target::Bridge(bridge.to_owned(), Part::Mirror(mirror.to_owned()))
    }

    /// The object of plans, reports and conditions.
    pub fn object(&self) -> Object {
        Object::Named(self.to_string())
    }

    /// What an object names, if it is of Open vSwitch. A bridge's name holds no `/`; a mirror's may.
    pub fn of(object: &Object) -> Option<Target> {
        let Object::Named(name) = object else { return None };
        if name == "ovs" {
            return Some(Target::Switch);
        }
        let rest = name.strip_prefix("bridge/")?;
        let Some((bridge, part)) = rest.split_once('/') else { return Some(Target::bridge(rest)) };
        let (kind, name) = part.split_once('/')?;
        match kind {
            "port" => Some(Target::port(bridge, name)),
            "mirror" => Some(Target::mirror(bridge, name)),
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Switch => f.write_str("ovs"),
            Target::Bridge(bridge, Part::Itself) => write!(f, "bridge/{bridge}"),
            Target::Bridge(bridge, Part::Port(port)) => write!(f, "bridge/{bridge}/port/{port}"),
            Target::Bridge(bridge, Part::Mirror(mirror)) => write!(f, "bridge/{bridge}/mirror/{mirror}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_targets_are_the_same_in_two_forms() {
        for target in [
            Target::Switch,
            Target::bridge("br-data"),
            Target::port("br-data", "mon0"),
            Target::mirror("br-data", "a/b/port/c"),
        ] {
            assert_eq!(Target::of(&target.object()), Some(target.clone()), "{target}");
        }
        for other in ["node", "net/eth0", "bridge/br0/flow/1", "0000:01:00.0"] {
            assert_eq!(Target::of(&other.parse().unwrap()), None, "{other}");
        }
    }
}
