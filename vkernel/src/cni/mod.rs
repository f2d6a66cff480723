//! Networks that other programs make: a container's own network namespace is joined to the host's by CNI plugins (containernetworking.github.io, specification 1.0), the ones that containerd and podman call.
//!
//! Owns what is kept of an attachment, and the order of plugins. How one is called is `plugin`'s, what ports are written as `ports`'s. The fact a newcomer gets wrong: what plugins leave on the host (addresses that are
//! taken, rules of a firewall) does not go with the namespace. So the record knows of an attachment before the first plugin runs, and whoever cleans up after a container detaches it; and the namespace is mounted, to be there until then.

mod plugin;
mod ports;

pub use plugin::DIRECTORIES;
pub use ports::Port;

use crate::failure::Failure;
use crate::namespaces;
use plugin::Call;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The network of `--network bridge`, unless the operator has written another one.
pub const FILE: &str = "/etc/vkernel/bridge.conflist";
const DEFAULT: &str = include_str!("../../../packaging/bridge.conflist");

/// A network configuration list, as far as the one who runs plugins reads it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct List {
    #[serde(rename = "cniVersion")]
    version: String,
    name: String,
    plugins: Vec<Plugin>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plugin {
    /// Name of the program.
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    capabilities: BTreeMap<String, bool>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// A container's place in a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    container: String,
    /// Where its network namespace is mounted. It must outlive the container: some plugins undo nothing without one.
    pub namespace: PathBuf,
    list: List,
    pub ports: Vec<Port>,
    /// What the last plugin said: interfaces, addresses, routes.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub result: Value,
}

impl List {
    /// The operator's list, or else ours.
    pub fn read(file: Option<&Path>) -> Result<Self, Failure> {
        let place = file.unwrap_or(Path::new(FILE));
        let failure = |why: String| Failure::new(format!("network {}", place.display()), why, "write a CNI network configuration list, with \"plugins\"");
        let list: Self = match std::fs::read_to_string(place) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && file.is_none() => serde_json::from_str(DEFAULT).expect("ours is one"),
            Err(e) => return Err(failure(e.to_string())),
            Ok(text) => serde_json::from_str(&text).map_err(|e| failure(e.to_string()))?,
        };
        match std::iter::once(&list.name).chain(list.plugins.iter().map(|p| &p.kind)).find(|name| !plugin::is_name(name)) {
            Some(name) => Err(failure(format!("{name:?} is no name"))),
            None if list.plugins.is_empty() => Err(failure("it has no plugins".into())),
            None => Ok(list),
        }
    }

    fn program(&self, plugin: &Plugin) -> Result<PathBuf, Failure> {
        plugin::find(&plugin.kind).ok_or_else(|| {
            let advice = format!("install CNI plugins into {} (Debian: containernetworking-plugins)", plugin::DIRECTORIES.join(" or "));
            Failure::new(format!("network {}", self.name), format!("its plugin {} is not installed", plugin.kind), advice)
        })
    }
}

impl Plugin {
    /// Whether it is told of ports.
    fn publishes(&self) -> bool {
        self.capabilities.get("portMappings") == Some(&true)
    }
}

impl Attachment {
    /// Nothing is done yet; what is missing is said now, while there is no container.
    pub fn plan(container: &str, namespace: PathBuf, list: List, ports: Vec<Port>) -> Result<Self, Failure> {
        list.plugins.iter().try_for_each(|p| list.program(p).map(drop))?;
        if !ports.is_empty() && !list.plugins.iter().any(Plugin::publishes) {
            return Err(Failure::new(
                format!("network {}", list.name),
                "none of its plugins publishes ports",
                "add {\"type\": \"portmap\", \"capabilities\": {\"portMappings\": true}}",
            ));
        }
        if let Some((port, _)) = ports.iter().enumerate().map(|(i, port)| (port, &ports[..i])).find(|(port, before)| before.iter().any(|other| port.collides(other))) {
            return Err(Failure::new(format!("--publish {port}"), "stands twice", "publish each port of the host once"));
        }
        ports.iter().try_for_each(Port::must_be_free)?;
        Ok(Self { container: container.to_owned(), namespace, list, ports, result: Value::Null })
    }

    /// Makes the namespace (`every_port`: also those below 1024 may be bound) and runs all plugins on it. What the first ones have made stays if a later one fails, until `detach`.
    pub fn attach(&mut self, every_port: bool) -> Result<(), Failure> {
        namespaces::mount_network(&self.namespace, every_port)?;
        for plugin in &self.list.plugins {
            let call = Call { command: "ADD", container: &self.container, namespace: Some(&self.namespace), program: self.list.program(plugin)? };
            let failure = |why: String| Failure::new(format!("network {}: {}", self.list.name, plugin.kind), why, "see the plugin's documentation, or use another --network");
            self.result = call.run(&self.configuration(plugin)?).map_err(failure)?;
        }
        Ok(())
    }

    /// Undoes it, from the last plugin to the first; may be called for what was attached in part, and again. Gives what went wrong: the rest is undone all the same, and the namespace stays for another try.
    pub fn detach(&self) -> Vec<Failure> {
        let namespace = namespaces::is_mounted(&self.namespace).then_some(self.namespace.as_path());
        let undo = |plugin: &Plugin| {
            let call = Call { command: "DEL", container: &self.container, namespace, program: self.list.program(plugin)? };
            let failure = |why: String| Failure::new(format!("leave network {}: {}", self.list.name, plugin.kind), why, "");
            call.run(&self.configuration(plugin)?).map(drop).map_err(failure)
        };
        let failures: Vec<_> = self.list.plugins.iter().rev().filter_map(|plugin| undo(plugin).err()).collect();
        if failures.is_empty() {
            namespaces::unmount(&self.namespace);
        }
        failures
    }

    /// The configuration of one plugin, with what was said before it.
    fn configuration(&self, plugin: &Plugin) -> Result<Value, Failure> {
        let mut value = serde_json::to_value(plugin).map_err(|e| Failure::new("network", e, ""))?;
        value.as_object_mut().expect("a structure is one").remove("capabilities");
        value["cniVersion"] = json!(self.list.version);
        value["name"] = json!(self.list.name);
        if !self.result.is_null() {
            value["prevResult"] = self.result.clone();
        }
        if plugin.publishes() && !self.ports.is_empty() {
            value["runtimeConfig"] = json!({"portMappings": self.ports});
        }
        Ok(value)
    }

    /// Addresses of the container, with the length of their prefix.
    pub fn addresses(&self) -> Vec<&str> {
        self.result["ips"].as_array().into_iter().flatten().filter_map(|ip| ip["address"].as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<List, Failure> {
        let file = std::env::temp_dir().join(format!("vkernel-cni-{}-{:?}", std::process::id(), std::thread::current().id()));
        std::fs::write(&file, text).unwrap();
        let list = List::read(Some(&file));
        std::fs::remove_file(&file).unwrap();
        list
    }

    #[test]
    fn a_list_is_read_whole_and_names_in_it_are_no_paths() {
        let list: List = serde_json::from_str(DEFAULT).unwrap();
        assert_eq!(serde_json::to_value(&list).unwrap(), serde_json::from_str::<Value>(DEFAULT).unwrap());
        assert!(read(r#"{"cniVersion": "1.0.0", "name": "n", "plugins": []}"#).unwrap_err().to_string().contains("no plugins"));
        for name in ["../bridge", "/bin/sh", "", ".x", "a b"] {
            let list = json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": name}]});
            assert!(read(&list.to_string()).unwrap_err().to_string().contains("is no name"), "{name}");
        }
        assert!(read("{}").unwrap_err().to_string().contains("cniVersion"));
        assert!(List::read(Some(Path::new("/nowhere/net.conflist"))).unwrap_err().to_string().contains("/nowhere/net.conflist"));
    }

    #[test]
    fn each_plugin_gets_what_the_one_before_it_said_and_only_who_publishes_gets_ports() {
        let list = read(r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "a", "x": 1}, {"type": "b", "capabilities": {"portMappings": true}}]}"#).unwrap();
        let mut attachment = Attachment { container: "c".into(), namespace: PathBuf::new(), list, ports: vec!["8080:80".parse().unwrap()], result: Value::Null };
        let of = |a: &Attachment, i: usize| a.configuration(&a.list.plugins[i]).unwrap();
        assert_eq!(of(&attachment, 0), json!({"cniVersion": "1.0.0", "name": "n", "type": "a", "x": 1}));
        attachment.result = json!({"ips": [{"address": "10.1.2.3/16"}]});
        assert_eq!(of(&attachment, 1)["prevResult"], attachment.result);
        assert_eq!(of(&attachment, 1)["runtimeConfig"], json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}]}));
        assert!(of(&attachment, 0).get("runtimeConfig").is_none());
        assert_eq!(attachment.addresses(), ["10.1.2.3/16"]);
    }

    #[test]
    fn what_is_missing_is_said_before_anything_is_done() {
        let list = read(r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "no-such-plugin"}]}"#).unwrap();
        let told = Attachment::plan("c", PathBuf::new(), list, Vec::new()).unwrap_err().to_string();
        assert!(told.contains("no-such-plugin") && told.contains("containernetworking-plugins"), "{told}");
    }
}
