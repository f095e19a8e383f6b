//! One request, and what may come back.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, StatusCode,
    body::{Body, Bytes, Incoming},
    header::{ACCEPT, AUTHORIZATION, CONNECTION, HOST, USER_AGENT},
};
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

use super::token::TokenFile;
use crate::{
    formats::{pod_list::pod_list, pods::PodNames},
    serve::client::{
        address::ServerAddress,
        connection::{self, ConnectError, told},
    },
};

/// All of it takes no longer than this.
const WITHIN: Duration = Duration::from_secs(10);
/// No more of an answer is read, bytes. Of a node with 250 pods it has some 4 MiB.
pub const LONGEST: usize = 32 << 20;

/// Who is asked, and how.
pub struct KubeletTarget {
    /// The kubelet.
    pub address: ServerAddress,
    /// What it wants to see.
    pub token: Option<TokenFile>,
    /// For https.
    pub tls: Option<Arc<ClientConfig>>,
}

impl KubeletTarget {
    /// Asks for its pods.
    ///
    /// # Errors
    /// Why there is no answer, or none that says so.
    pub async fn ask(&self) -> Result<PodNames, String> {
        let answer = timeout(WITHIN, self.body()).await;
        let body = answer.map_err(|_| format!("no answer within {} s", WITHIN.as_secs()))??;
        pod_list(&body).map_err(|e| format!("it answers with {e}"))
    }

    async fn body(&self) -> Result<Vec<u8>, String> {
        let request = self.request()?;
        let stream = connection::connect(&self.address, self.tls.as_ref()).await;
        let stream = stream.map_err(|e| match e {
            ConnectError::Unreachable(_) => e.to_string(),
            ConnectError::Tls(_) => format!("{e} (--pods-ca says whom to trust)"),
        })?;
        let (mut sender, _driver) = connection::http1(stream).await?;
        let answer = sender.send_request(request).await.map_err(told)?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(format!("it answers {status}{}", self.remedy(status)));
        }
        whole(answer.into_body()).await
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::get("/pods")
            .header(HOST, &self.address.authority)
            .header(USER_AGENT, connection::USER_AGENT)
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close");
        if let Some(token) = &self.token {
            let value = token.read();
            let value =
                value.map_err(|e| format!("--pods-token-file {}: {e}", token.path().display()))?;
            request = request.header(AUTHORIZATION, value);
        }
        request.body(Full::default()).map_err(|e| e.to_string())
    }

    fn remedy(&self, status: StatusCode) -> &'static str {
        match status {
            StatusCode::UNAUTHORIZED if self.token.is_none() => {
                ": it wants a token (--pods-token-file)"
            }
            StatusCode::UNAUTHORIZED => ": it does not know the token of --pods-token-file",
            StatusCode::FORBIDDEN => {
                ": who has the token must be allowed to get nodes/pods (before Kubernetes 1.33: \
                 nodes/proxy)"
            }
            StatusCode::NOT_FOUND => ": is that a kubelet?",
            _ => "",
        }
    }
}

/// All of a body, in one piece: many small ones would take more memory than what is in them.
async fn whole(mut body: Incoming) -> Result<Vec<u8>, String> {
    let too_long = || format!("its answer is longer than {} MiB", LONGEST >> 20);
    if body.size_hint().lower() > LONGEST as u64 {
        return Err(too_long());
    }
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(told)?.into_data() else { continue };
        if piece.len() > LONGEST - whole.len() {
            return Err(too_long());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}
