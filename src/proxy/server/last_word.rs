//! What a client is told at the end of its connection, outside of any HTTP that hyper speaks.

use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};

/// How long it may take to be sent.
const LIMIT: Duration = Duration::from_secs(1);

/// Says this and closes, as far as the client takes it in time.
pub(super) async fn last_word<S: AsyncWrite + Unpin>(socket: &mut S, words: &[u8]) {
    let said = async {
        socket.write_all(words).await?;
        socket.shutdown().await
    };
    let _ = tokio::time::timeout(LIMIT, said).await;
}
