//! How agents are asked: what `fleet` and `explain` share.

use std::path::PathBuf;

use super::tls::{self, wrong};
use crate::{
    exit::Failure,
    serve::{client::connection, guard},
    source::fleet::http::Client,
};

/// An agent's port, where none is given.
pub const PORT: u16 = 9095;

/// What is shown to who is asked, and who vouches for it.
#[derive(Debug, clap::Args)]
pub struct AgentAccess {
    /// Send the first token of this file (Authorization: Bearer TOKEN)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Who vouches for the certificates of https (PEM)
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
}

impl AgentAccess {
    /// A flag of it that was given.
    pub fn given(&self) -> Option<&'static str> {
        let token = self.token_file.as_ref().map(|_| "--token-file");
        token.or(self.tls_ca.as_ref().map(|_| "--tls-ca"))
    }

    /// Who asks so.
    pub fn client(&self) -> Result<Client, Failure> {
        let mut client = Client::default();
        if let Some(path) = &self.token_file {
            let text = tls::tokens("--token-file", path)?;
            let token = guard::tokens(&text).next().unwrap_or_default();
            let value = connection::secret(&format!("Bearer {token}")).map_err(|_| {
                wrong("--token-file", path, "the token has characters that no header can have")
            })?;
            client.authorization = Some(value);
        }
        if let Some(path) = &self.tls_ca {
            let trust = tls::Trust::Roots(tls::roots("--tls-ca", path)?);
            let provider = tls::provider("--tls-ca", path, "ask from another machine")?;
            let config = tls::client(provider, trust, tls::HTTP_1_1);
            client.tls = Some(config.map_err(|e| wrong("--tls-ca", path, e))?);
        }
        Ok(client)
    }
}
