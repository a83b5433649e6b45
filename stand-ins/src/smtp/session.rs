//! One SMTP session.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use super::{Mail, Mode, PASSWORD, Shared, Stage, USER, What};

/// How long a piece of an answer stays alone.
const PIECE: Duration = Duration::from_millis(20);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type Connection = BufStream<Box<dyn Stream>>;

/// Ends the session.
struct End;

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

struct Session {
    shared: Arc<Shared>,
    is_safe: bool,
    is_known: bool,
    hello: String,
    from: Option<String>,
    recipients: Vec<String>,
}

pub(super) async fn run(stream: TcpStream, shared: Arc<Shared>) {
    let _ = talk(stream, shared).await;
}

async fn talk(stream: TcpStream, shared: Arc<Shared>) -> Result<(), End> {
    let is_safe = shared.mode == Mode::Implicit;
    let stream: Box<dyn Stream> =
        if is_safe { Box::new(shared.tls.accept(stream).await?) } else { Box::new(stream) };
    let mut session = Session {
        shared,
        is_safe,
        is_known: false,
        hello: String::new(),
        from: None,
        recipients: Vec::new(),
    };
    let mut connection = BufStream::new(stream);
    session.say(&mut connection, Stage::Greeting, "220 stand-in ESMTP").await?;
    loop {
        let mut line = Vec::new();
        if connection.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = text.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => {
                session.hello = text.split(' ').nth(1).unwrap_or_default().to_owned();
                session.hello(&mut connection).await?;
            }
            "STARTTLS" if session.shared.mode == Mode::StartTls && !session.is_safe => {
                if !session.say(&mut connection, Stage::StartTls, "220 go ahead").await?.starts_with("220") {
                    continue;
                }
                match session.meets(Stage::Handshake) {
                    Some(What::Hang) => std::future::pending().await,
                    Some(What::Say(garbage)) => return Ok(write(&mut connection, garbage).await?),
                    Some(_) => return Ok(()),
                    None => {}
                }
                let plain = connection.into_inner();
                let tls = session.shared.tls.accept(plain).await?;
                connection = BufStream::new(Box::new(tls));
                session.is_safe = true;
            }
            "AUTH" => session.auth(&mut connection, &text).await?,
            "MAIL" => {
                let may = session.is_known || !session.asks_for_auth();
                session.from = address(&text);
                session.recipients.clear();
                let answer = if may { "250 2.1.0 ok" } else { "530 5.7.0 authentication required" };
                session.say(&mut connection, Stage::Sender, answer).await?;
            }
            "RCPT" => session.recipient(&mut connection, &text).await?,
            "DATA" if session.recipients.is_empty() => {
                write(&mut connection, "503 5.5.1 no recipients").await?;
            }
            "DATA" => {
                session.say(&mut connection, Stage::Data, "354 go").await?;
                session.body(&mut connection).await?;
            }
            "RSET" | "NOOP" => write(&mut connection, "250 2.0.0 ok").await?,
            "QUIT" => {
                session.say(&mut connection, Stage::Quit, "221 2.0.0 bye").await?;
                return Ok(());
            }
            _ => write(&mut connection, "502 5.5.1 not known").await?,
        }
    }
}

impl Session {
    fn asks_for_auth(&self) -> bool {
        self.is_safe || self.shared.mode == Mode::Plain
    }

    fn extensions(&self) -> String {
        let limits = *self.shared.limits();
        let (size, ways) = (format!("SIZE {}", limits.size), format!("AUTH {}", limits.mechanisms));
        let mut lines = vec!["stand-in", "8BITMIME", &size];
        if self.shared.mode == Mode::StartTls && !self.is_safe {
            lines.push("STARTTLS");
        }
        if self.asks_for_auth() {
            lines.push(&ways);
        }
        let last = lines.len() - 1;
        let line = |(at, text): (usize, &&str)| format!("250{}{text}", if at == last { ' ' } else { '-' });
        lines.iter().enumerate().map(line).collect::<Vec<_>>().join("\r\n")
    }

    /// What is planned for this stage.
    fn meets(&self, stage: Stage) -> Option<What> {
        self.shared.script.take_if(|(at, _)| *at == stage).map(|(_, what)| what)
    }

    /// Answers as planned, or as it ordinarily would; what it said.
    async fn say(
        &self,
        connection: &mut Connection,
        stage: Stage,
        ordinary: &'static str,
    ) -> Result<&'static str, End> {
        match self.meets(stage) {
            Some(What::Say(answer)) => {
                write(connection, answer).await?;
                // A greeting of 421 or 554 and a 421 anywhere end the session; so does a refused EHLO.
                let ends =
                    answer.starts_with("421") || (stage == Stage::Greeting && !answer.starts_with("220"));
                if ends { Err(End) } else { Ok(answer) }
            }
            Some(What::Pieces(pieces)) => {
                in_pieces(connection, pieces).await?;
                Ok(ordinary)
            }
            Some(What::Bytes(bytes)) => {
                connection.write_all(bytes).await?;
                connection.flush().await?;
                Err(End)
            }
            Some(What::Hang) => std::future::pending().await,
            Some(What::Close | What::AcceptThenClose) => Err(End),
            None => {
                write(connection, ordinary).await?;
                Ok(ordinary)
            }
        }
    }

    async fn hello(&self, connection: &mut Connection) -> Result<(), End> {
        match self.shared.script.is_planned_for(|(at, _)| *at == Stage::Hello) {
            true => self.say(connection, Stage::Hello, "").await.map(drop),
            false => Ok(write(connection, &self.extensions()).await?),
        }
    }

    async fn auth(&mut self, connection: &mut Connection, text: &str) -> Result<(), End> {
        if !self.asks_for_auth() {
            return Ok(write(connection, "538 5.7.11 encryption required").await?);
        }
        let words: Vec<_> = text.split(' ').collect();
        let way = words.get(1).copied().unwrap_or_default().to_ascii_uppercase();
        if !self.shared.limits().mechanisms.split(' ').any(|offered| offered == way) {
            return Ok(write(connection, "504 5.5.4 not that way").await?);
        }
        let decoded = |part: &str| STANDARD.decode(part.trim()).unwrap_or_default();
        self.is_known = if way == "LOGIN" {
            let mut given = Vec::new();
            for question in ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"] {
                write(connection, question).await?;
                let mut line = String::new();
                connection.read_line(&mut line).await?;
                given.push(decoded(&line));
            }
            given == [USER.as_bytes(), PASSWORD.as_bytes()]
        } else {
            let given = decoded(words.get(2).copied().unwrap_or_default());
            given == format!("\0{USER}\0{PASSWORD}").as_bytes()
        };
        let answer = if self.is_known { "235 2.7.0 welcome" } else { "535 5.7.8 wrong credentials" };
        self.say(connection, Stage::Auth, answer).await.map(drop)
    }

    async fn recipient(&mut self, connection: &mut Connection, text: &str) -> Result<(), End> {
        let Some(recipient) = address(text) else {
            return Ok(write(connection, "501 5.1.3 no address").await?);
        };
        if self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).contains(&recipient) {
            return Ok(write(connection, "550 5.1.1 no such mailbox").await?);
        }
        let answer = self.say(connection, Stage::Recipient, "250 2.1.5 ok").await?;
        if answer.starts_with("250") {
            self.recipients.push(recipient);
        }
        Ok(())
    }

    async fn body(&mut self, connection: &mut Connection) -> Result<(), End> {
        let (mut raw, mut wrong) = (Vec::new(), Vec::new());
        loop {
            let mut line = Vec::new();
            if connection.read_until(b'\n', &mut line).await? == 0 {
                return Err(End);
            }
            if line == b".\r\n" {
                break;
            }
            if !line.ends_with(b"\r\n") {
                wrong.push("a bare line feed".to_owned());
            }
            if line[..line.len().saturating_sub(2)].contains(&b'\r') {
                wrong.push("a bare carriage return".to_owned());
            }
            if line.len() > 1_000 {
                wrong.push("a line longer than 998".to_owned());
            }
            raw.extend_from_slice(if line.first() == Some(&b'.') { &line[1..] } else { &line });
        }
        let mail = Mail {
            hello: self.hello.clone(),
            from: self.from.clone().unwrap_or_default(),
            recipients: self.recipients.clone(),
            raw,
            wrong,
        };
        if mail.raw.len() > self.shared.limits().size {
            return Ok(write(connection, "552 5.3.4 too big").await?);
        }
        match self.meets(Stage::Dot) {
            Some(What::Say(answer)) => {
                write(connection, answer).await?;
                if answer.starts_with("421") { Err(End) } else { Ok(()) }
            }
            Some(What::Pieces(pieces)) => {
                self.accept(mail);
                Ok(in_pieces(connection, pieces).await?)
            }
            Some(What::Bytes(bytes)) => {
                self.accept(mail);
                connection.write_all(bytes).await?;
                connection.flush().await?;
                Err(End)
            }
            Some(What::Close) => Err(End),
            Some(What::Hang) => std::future::pending().await,
            Some(What::AcceptThenClose) => {
                self.accept(mail);
                Err(End)
            }
            None => {
                self.accept(mail);
                Ok(write(connection, "250 2.0.0 queued as stand-in-1").await?)
            }
        }
    }

    fn accept(&self, mut mail: Mail) {
        for name in ["message-id", "date", "from", "to"] {
            if mail.header(name).is_none() {
                mail.wrong.push(format!("no {name}"));
            }
        }
        self.shared.mails.send_modify(|mails| mails.push(mail));
    }
}

async fn write(connection: &mut Connection, line: &str) -> std::io::Result<()> {
    connection.write_all(format!("{line}\r\n").as_bytes()).await?;
    connection.flush().await
}

/// Each piece leaves before the next is written.
async fn in_pieces(connection: &mut Connection, pieces: &[&str]) -> std::io::Result<()> {
    for piece in pieces {
        connection.write_all(piece.as_bytes()).await?;
        connection.flush().await?;
        // The other side reads what has come.
        tokio::time::sleep(PIECE).await;
    }
    Ok(())
}

/// What stands between `<` and `>`.
fn address(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('<')?;
    rest.split_once('>').map(|(address, _)| address.to_owned())
}
