//! Two "machines" on this one: network namespaces with host names of their own, which reach each other over a cable between them, and
//! nobody else.

#![allow(dead_code, reason = "each test uses its part")]

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// They are gone when this is.
pub struct TwoHosts {
    names: [String; 2],
}

static MADE: AtomicUsize = AtomicUsize::new(0);

impl TwoHosts {
    /// Where each of them is reached.
    pub const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

    /// `None` where this user may not make them, or where there is no `ip` or `unshare`.
    pub fn make() -> Option<Self> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        // The name of an interface has 15 characters at most.
        let name = |host: &str| format!("eq{}{number}{host}", std::process::id());
        let hosts = Self {
            names: [name("a"), name("b")],
        };
        let [a, b] = &hosts.names;
        let mut made = run(&format!("netns add {a}")) && run(&format!("netns add {b}"));
        made = made
            && run(&format!(
                "link add {a} netns {a} type veth peer name {b} netns {b}"
            ));
        for (name, address) in hosts.names.iter().zip(Self::ADDRESSES) {
            made = made
                && run(&format!("-n {name} addr add {address}/24 dev {name}"))
                && run(&format!("-n {name} link set {name} up"))
                && run(&format!("-n {name} link set lo up"));
        }
        let speaks = |host| hosts.on(host, "true").status();
        (made && (0..2).all(|host| speaks(host).is_ok_and(|status| status.success())))
            .then_some(hosts)
    }

    /// `program` on one of them; arguments may follow.
    pub fn on(&self, host: usize, program: &str) -> Command {
        let name = &self.names[host];
        let mut command = Command::new("ip");
        command.args(["netns", "exec", name, "unshare", "--uts", "sh", "-c"]);
        command.args([&format!("hostname {name} && exec \"$@\""), "sh", program]);
        command
    }

    /// The text of a program that runs on the second what mpirun would run there through `ssh`.
    pub fn remote_shell(&self) -> String {
        let name = &self.names[1];
        format!(
            "#!/bin/sh\nshift\nexec ip netns exec {name} unshare --uts sh -c \"hostname {name} && $*\"\n"
        )
    }
}

impl Drop for TwoHosts {
    fn drop(&mut self) {
        for name in &self.names {
            run(&format!("netns del {name}"));
        }
    }
}

fn run(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split(' ')).output();
    output.is_ok_and(|output| output.status.success())
}
