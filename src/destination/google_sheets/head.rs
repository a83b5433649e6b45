//! What the writer knows of its tab and header: read again when that is old, and made where it is missing.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::api::Tab;
use super::columns::{Header, core};
use super::failure::Failure;
use super::queue::Waiting;
use super::writer::{AtDesk, Writer};

/// How old our word for tab and header may be when rows are sent.
const FRESH: Duration = Duration::from_secs(3);

/// Tab and header as they were a moment ago.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) tab: Tab,
    pub(super) header: Header,
    read_at: Instant,
}

impl Head {
    /// The next look at it is a new read.
    pub(super) fn grow_old(&mut self) {
        self.read_at = Instant::now().checked_sub(FRESH).unwrap_or(self.read_at);
    }
}

impl Writer {
    /// Reads tab and header when our word for them is old; makes what is missing.
    pub(super) async fn refresh(&self, seat: &mut AtDesk<'_>) -> Result<(), Failure> {
        match &*seat.kept {
            Some(known) if known.read_at.elapsed() < FRESH => return Ok(()),
            // At high load an older word will do: what a person changes meanwhile is seen by the next read.
            Some(_) if !self.heads.try_take().await => return Ok(()),
            Some(_) => {}
            None => self.heads.take().await,
        }
        self.read_head(seat).await
    }

    /// Reads tab and header, and makes what is missing. The read is paid for.
    pub(super) async fn read_head(&self, seat: &mut AtDesk<'_>) -> Result<(), Failure> {
        let now = Instant::now();
        let mut read = self.find().await?;
        if read.is_none() {
            self.writes.take().await;
            seat.may_write().await?;
            self.api.add_tab(&self.title, core().count()).await?;
            info!("made the tab that leads go to");
            read = self.find().await?;
        }
        let Some((tab, mut header)) = read else { return Err(Failure::Lost("no_tab".to_owned())) };
        if header.is_empty() {
            let names: Vec<_> = core().map(str::to_owned).collect();
            self.writes.take().await;
            seat.may_write().await?;
            self.api.add_headers(&tab, 0, &names).await?;
            header = Header(names);
        }
        *seat.kept = Some(Head { tab, header, read_at: now });
        self.id_column(&mut seat.kept).map(|_| ())
    }

    /// The tab that leads go to, and its header. It keeps its number when it is renamed, and its name can go to another one:
    /// the number is known to all processes, and after a restart.
    async fn find(&self) -> Result<Option<(Tab, Header)>, Failure> {
        let mut known = self.tab.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let was_known = known.as_ref().map(|tab| tab.sheet_id);
        if known.is_none() {
            let number = self.commons.recall(&self.tab_key).await.and_then(|number| number.parse().ok());
            known = number.map(|sheet_id| Tab { sheet_id, title: self.title.clone(), columns: 0 });
        }
        let title = known.as_ref().map_or(&self.title, |tab| &tab.title);
        let mut read = self.api.head(title).await?;
        if let Some(known) = &known
            && read.as_ref().is_none_or(|(tab, _)| tab.sheet_id != known.sheet_id)
        {
            let renamed = self.api.tabs().await?.into_iter().find(|tab| tab.sheet_id == known.sheet_id);
            // Where it is gone, the next one is found or made by the name that was configured.
            let title = renamed.map_or_else(|| self.title.clone(), |tab| tab.title);
            read = self.api.head(&title).await?;
        }
        let found = read.as_ref().map(|(tab, _)| tab.clone());
        if let Some(tab) = found.as_ref().filter(|tab| was_known != Some(tab.sheet_id)) {
            self.commons.remember(&self.tab_key, &tab.sheet_id.to_string());
        }
        *self.tab.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(read)
    }

    /// Where the ids stand.
    pub(super) fn id_column(&self, head: &mut Option<Head>) -> Result<usize, Failure> {
        let known = head.as_ref().ok_or_else(|| Failure::Lost("no_tab".to_owned()))?;
        let place = known.header.id();
        place.map_err(|why| {
            *head = None;
            Failure::BadHeader(why)
        })
    }

    /// Adds the columns that the group needs, in one write; looks first whether another process has added
    /// them meanwhile.
    pub(super) async fn widen(&self, seat: &mut AtDesk<'_>, group: &[Waiting]) -> Result<(), Failure> {
        let rows: Vec<_> = group.iter().map(|waiting| waiting.cells.as_slice()).collect();
        let missing = |seat: &AtDesk<'_>| match &*seat.kept {
            Some(known) => Ok((known.header.missing(&rows, self.max_columns), known.read_at)),
            None => Err(Failure::Lost("no_tab".to_owned())),
        };
        let (mut lacking, read_at) = missing(seat)?;
        if !lacking.is_empty() && read_at < seat.since {
            self.heads.take().await;
            self.read_head(seat).await?;
            (lacking, _) = missing(seat)?;
        }
        if lacking.is_empty() {
            return Ok(());
        }
        let missing = lacking;
        self.writes.take().await;
        seat.may_write().await?;
        let Some(known) = seat.kept.as_mut() else { return Err(Failure::Lost("no_tab".to_owned())) };
        let first = known.header.0.len();
        self.api.add_headers(&known.tab, first, &missing).await?;
        known.header.0.extend(missing);
        known.tab.columns = known.tab.columns.max(known.header.0.len());
        Ok(())
    }

    /// The tab, and the places of the id column and of this one, read anew. `None`: there is no such tab, or
    /// no such column.
    pub(super) async fn place_of(
        &self,
        seat: &mut AtDesk<'_>,
        column: &str,
    ) -> Result<Option<(Tab, usize, usize)>, Failure> {
        let Some((tab, header)) = self.head_anew(seat).await? else { return Ok(None) };
        let id = header.id().map_err(Failure::BadHeader)?;
        Ok(header.position(column).map(|place| (tab, id, place)))
    }

    /// The tab and its header, read anew.
    pub(super) async fn head_anew(&self, seat: &mut AtDesk<'_>) -> Result<Option<(Tab, Header)>, Failure> {
        *seat.kept = None;
        self.heads.take().await;
        self.find().await
    }
}
