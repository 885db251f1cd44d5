//! AMQP 0-9-1 by hand, for messages that no client library lets one write.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const END: u8 = 0xce;

/// A signed-in connection with one channel that confirms.
pub struct Raw(TcpStream);

impl Raw {
    /// Takes `amqp://user:password@host:port/vhost`.
    pub async fn connect(url: &str) -> Self {
        let (user, rest) =
            url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).expect("an account");
        let (host, vhost) = rest.split_once('/').expect("a vhost");
        let vhost = vhost.split('?').next().expect("a name");
        let mut raw = Self(TcpStream::connect(host).await.expect("the broker answers"));
        raw.0.write_all(b"AMQP\0\0\x09\x01").await.expect("written");
        raw.expect(10, 10).await;
        let plain = format!("\0{}", user.replace(':', "\0"));
        raw.method(0, 10, 11, &[&long(&[]), &short(b"PLAIN"), &long(plain.as_bytes()), &short(b"en_US")])
            .await;
        let tune = raw.expect(10, 30).await;
        raw.method(0, 10, 31, &[&tune]).await;
        raw.method(0, 10, 40, &[&short(vhost.as_bytes()), &[0, 0]]).await;
        raw.expect(10, 41).await;
        raw.method(1, 20, 10, &[&[0]]).await;
        raw.expect(20, 11).await;
        raw.method(1, 85, 10, &[&[0]]).await;
        raw.expect(85, 11).await;
        raw
    }

    /// Publishes; `properties` are flags and values as they stand on the wire. Returns when it is confirmed.
    pub async fn publish(&mut self, exchange: &str, key: &[u8], properties: &[u8], body: &[u8]) {
        self.method(1, 60, 40, &[&[0, 0], &short(exchange.as_bytes()), &short(key), &[0]]).await;
        let mut header = vec![0, 60, 0, 0];
        header.extend((body.len() as u64).to_be_bytes());
        header.extend(properties);
        self.frame(HEADER, 1, &header).await;
        self.frame(BODY, 1, body).await;
        self.expect(60, 80).await;
    }

    async fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[&[u8]]) {
        let mut payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
        payload.extend(arguments.concat());
        self.frame(METHOD, channel, &payload).await;
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let mut frame = vec![kind];
        frame.extend(channel.to_be_bytes());
        frame.extend(u32::try_from(payload.len()).expect("short").to_be_bytes());
        frame.extend(payload);
        frame.push(END);
        self.0.write_all(&frame).await.expect("written");
    }

    /// The arguments of the next frame, which must be this method.
    async fn expect(&mut self, class: u16, method: u16) -> Vec<u8> {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).await.expect("a frame");
        let size = u32::from_be_bytes(head[3..].try_into().expect("four bytes"));
        let mut payload = vec![0; size as usize + 1];
        self.0.read_exact(&mut payload).await.expect("a whole frame");
        payload.pop();
        let found =
            (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
        assert_eq!(found, (class, method), "{:?}", String::from_utf8_lossy(&payload));
        payload.split_off(4)
    }
}

/// A short string, of any bytes.
pub fn short(bytes: &[u8]) -> Vec<u8> {
    let mut text = vec![u8::try_from(bytes.len()).expect("at most 255 bytes")];
    text.extend(bytes);
    text
}

/// A long string, or a table.
pub fn long(bytes: &[u8]) -> Vec<u8> {
    let mut text = u32::try_from(bytes.len()).expect("short").to_be_bytes().to_vec();
    text.extend(bytes);
    text
}
