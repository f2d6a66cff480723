//! Published ports as podman writes them: `[[IP:]HOST:]CONTAINER[/PROTOCOL]`. Owns this form and the question whether a port of the host is free.
//!
//! The fact a newcomer gets wrong: the plugin that publishes a port listens to nothing. Two containers could publish the same one, and a server of the host would just not be reached any more.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::str::FromStr;

/// In the words of CNI's `portMappings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
    /// Empty: every address of the host.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write [[IP:]HOST:]CONTAINER[/tcp|udp], with ports from 1 to 65535".to_owned();
        let (place, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.split('/').next().unwrap_or_default(), Protocol::Tcp),
            Some((place, "udp")) => (place, Protocol::Udp),
            Some(_) => return Err(wrong()),
        };
        let port = |text: &str| text.parse().ok().filter(|port: &u16| *port != 0).ok_or_else(wrong);
        let (before, container) = place.rsplit_once(':').map_or((None, place), |(before, last)| (Some(before), last));
        let (ip, host) = match before.map(|before| before.rsplit_once(':').map_or(("", before), |(ip, host)| (ip, host))) {
            // As podman's for one number: the same on both sides.
            None => ("", container),
            Some(both) => both,
        };
        let ip = ip.trim_start_matches('[').trim_end_matches(']');
        let host_ip = if ip.is_empty() { String::new() } else { ip.parse::<IpAddr>().map_err(|_| wrong())?.to_string() };
        Ok(Self { host_port: port(host)?, container_port: port(container)?, protocol, host_ip })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let ip = if self.host_ip.is_empty() { "0.0.0.0" } else { &self.host_ip };
        write!(f, "{ip}:{}->{}/{protocol}", self.host_port, self.container_port)
    }
}

impl Port {
    /// Whether both would take the same port of the host.
    pub fn collides(&self, other: &Self) -> bool {
        let every = |port: &Self| port.host_ip.is_empty() || port.host_ip.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        let same_address = self.host_ip == other.host_ip || every(self) || every(other);
        self.host_port == other.host_port && self.protocol == other.protocol && same_address
    }

    /// Somebody on the host who listens there would lose what comes in.
    pub fn must_be_free(&self) -> Result<(), Failure> {
        let address = (if self.host_ip.is_empty() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { self.host_ip.parse().expect("it was read as one") }, self.host_port);
        let taken = match self.protocol {
            Protocol::Tcp => TcpListener::bind(address).map(drop),
            Protocol::Udp => UdpSocket::bind(address).map(drop),
        };
        taken.map_err(|e| Failure::new(format!("--publish {self}"), e, "choose another port, or stop what uses it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_podman_reads_them() {
        let text = |t: &str| t.parse::<Port>().map(|p| p.to_string());
        assert_eq!(text("80"), Ok("0.0.0.0:80->80/tcp".into()));
        assert_eq!(text("8080:80"), Ok("0.0.0.0:8080->80/tcp".into()));
        assert_eq!(text("127.0.0.1:8080:80/tcp"), Ok("127.0.0.1:8080->80/tcp".into()));
        assert_eq!(text("53:5353/udp"), Ok("0.0.0.0:53->5353/udp".into()));
        assert_eq!("[::1]:8080:80".parse::<Port>().map(|p| p.host_ip), Ok("::1".into()));
        for bad in ["", "0", "x", "80/sctp", "1:2:3", "70000", "80:", ":80", "localhost:80:80", "8080:80/tcp/udp"] {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_refused_and_collisions_are_seen() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let port: Port = format!("127.0.0.1:{number}:80").parse().unwrap();
        assert!(port.must_be_free().unwrap_err().to_string().contains("stop what uses it"));
        drop(taken);
        port.must_be_free().unwrap();
        let p = |t: &str| t.parse::<Port>().unwrap();
        assert!(p("80").collides(&p("127.0.0.1:80:9")) && p("80").collides(&p("80:81")) && p("0.0.0.0:80:80").collides(&p("127.0.0.1:80:9")));
        assert!(!p("80").collides(&p("80/udp")) && !p("127.0.0.1:80:80").collides(&p("127.0.0.2:80:80")) && !p("80").collides(&p("81:80")));
    }
}
