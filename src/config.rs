//! Stands for the configuration until it is there.
use std::{net::SocketAddr, path::PathBuf};

pub struct Config {
    pub listen: Option<Vec<Listen>>,
    pub control_plane: ControlPlane,
    pub state_directory: Option<PathBuf>,
    pub admin: Admin,
    pub cookie_secret_file: Option<PathBuf>,
    pub limits: Limits,
    pub nsid: Option<String>,
    pub log: Log,
}
pub struct Listen {
    pub address: SocketAddr,
}
pub struct ControlPlane {
    pub directory: PathBuf,
}
pub struct Admin {
    pub address: SocketAddr,
}
pub struct Limits {
    pub error_answers_per_second: u32,
    pub tcp_connections: u32,
    pub tcp_connections_per_client: u32,
    pub tcp_idle_timeout_seconds: u32,
}
pub struct Log {
    pub json: bool,
}
impl Config {
    pub fn load(_path: Option<&std::path::Path>) -> Result<Config, Vec<crate::manifest::Problem>> {
        Ok(Config {
            listen: None,
            control_plane: ControlPlane { directory: "zones".into() },
            state_directory: None,
            admin: Admin { address: "127.0.0.1:9153".parse().unwrap() },
            cookie_secret_file: None,
            limits: Limits {
                error_answers_per_second: 50,
                tcp_connections: 10000,
                tcp_connections_per_client: 100,
                tcp_idle_timeout_seconds: 10,
            },
            nsid: None,
            log: Log { json: false },
        })
    }
}
