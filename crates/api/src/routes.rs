//! The API of one service as one table.

use crate::{Error, Method, Request, Response, StreamRequest};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

type SyncHandler<S> = Arc<dyn Fn(&S, &Request) -> Result<Response, Error> + Send + Sync>;
type StreamHandler<S> = Arc<dyn Fn(Arc<S>, StreamRequest) -> BoxFuture<'static, Result<Response, Error>> + Send + Sync>;

pub(crate) enum Handler<S> {
    Sync(SyncHandler<S>),
    Stream(StreamHandler<S>),
}

pub(crate) struct Route<S> {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) public: bool,
    pub(crate) handler: Handler<S>,
}

/// The routes of a service. Paths name their parameters in braces: `/servers/{id}`.
/// A GET route answers HEAD as well, unless there is one for HEAD.
pub struct Routes<S> {
    pub(crate) table: Vec<Route<S>>,
}

impl<S> Default for Routes<S> {
    fn default() -> Self {
        Routes { table: Vec::new() }
    }
}

macro_rules! verbs {
    ($($name:ident => $method:ident;)*) => {$(
        #[doc = concat!("Adds a handler for ", stringify!($method), ".")]
        pub fn $name<E: Into<Error>>(&mut self, path: &'static str, handler: impl Fn(&S, &Request) -> Result<Response, E> + Send + Sync + 'static) -> &mut Self {
            self.add(Method::$method, path, false, handler)
        }
    )*};
}

impl<S: Send + Sync + 'static> Routes<S> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    verbs! {
        get => GET;
        head => HEAD;
        post => POST;
        put => PUT;
        patch => PATCH;
        delete => DELETE;
    }

    /// Adds a handler that needs no token.
    pub fn public<E: Into<Error>>(
        &mut self,
        method: Method,
        path: &'static str,
        handler: impl Fn(&S, &Request) -> Result<Response, E> + Send + Sync + 'static,
    ) -> &mut Self {
        self.add(method, path, true, handler)
    }

    /// Adds a handler that reads the body piece by piece, answers piece by piece, or takes over the connection.
    pub fn stream(
        &mut self,
        method: Method,
        path: &'static str,
        handler: impl Fn(Arc<S>, StreamRequest) -> BoxFuture<'static, Result<Response, Error>> + Send + Sync + 'static,
    ) -> &mut Self {
        self.table.push(Route { method, path, public: false, handler: Handler::Stream(Arc::new(handler)) });
        self
    }

    /// [`Routes::stream`] without a token: the handler itself must find out who asks.
    pub fn public_stream(
        &mut self,
        method: Method,
        path: &'static str,
        handler: impl Fn(Arc<S>, StreamRequest) -> BoxFuture<'static, Result<Response, Error>> + Send + Sync + 'static,
    ) -> &mut Self {
        self.table.push(Route { method, path, public: true, handler: Handler::Stream(Arc::new(handler)) });
        self
    }

    fn add<E: Into<Error>>(
        &mut self,
        method: Method,
        path: &'static str,
        public: bool,
        handler: impl Fn(&S, &Request) -> Result<Response, E> + Send + Sync + 'static,
    ) -> &mut Self {
        let handler: SyncHandler<S> = Arc::new(move |s, r| handler(s, r).map_err(Into::into));
        self.table.push(Route { method, path, public, handler: Handler::Sync(handler) });
        self
    }

    /// Method, path and whether it is public, of every route: what the tests that walk all routes start from.
    pub fn list(&self) -> impl Iterator<Item = (&Method, &'static str, bool)> {
        self.table.iter().map(|r| (&r.method, r.path, r.public))
    }
}
