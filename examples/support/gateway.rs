//! The daemon, set up to talk to a simulated WhatsApp.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use wagate::config::{Config, Http, Limits, WhatsApp};

/// Some version of WhatsApp Web: the simulator takes any, and nobody is asked for the current one.
pub(crate) const VERSION: (u32, u32, u32) = (2, 3000, 1_042_742_319);

/// Everything by default but for where things are; on any free port of this machine.
pub(crate) fn config(state_dir: &Path, whatsapp: &str) -> Config {
    Config {
        state_dir: state_dir.to_owned(),
        http: Http { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..Http::default() },
        // What is measured is not how fast we may ask.
        limits: Limits::off(),
        whatsapp: WhatsApp {
            version: Some(VERSION),
            url: Some(whatsapp.to_owned()),
            ..WhatsApp::default()
        },
        ..Config::default()
    }
}
