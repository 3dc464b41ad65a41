//! `tables`: files of the mini-batch as typed columns.

use wasmtime::component::Resource;

use super::HostTensor;
use super::permanent;
use crate::script::bindings::scorehost::script::tables::{
    Field, Host, HostBatch as BatchMethods, HostTable as TableMethods, HostWriter as WriterMethods,
};
use crate::script::bindings::scorehost::script::types::{Column, Failure};
use crate::script::state::State;

pub struct HostTable;
pub struct HostBatch;
pub struct HostWriter;

type Answered<T> = wasmtime::Result<Result<T, Failure>>;

impl Host for State {}

impl TableMethods for State {
    async fn open(&mut self, _file: String) -> Answered<Resource<HostTable>> {
        Ok(Err(permanent("tables are not here yet")))
    }
    fn fields(&mut self, _this: Resource<HostTable>) -> wasmtime::Result<Vec<Field>> {
        Ok(Vec::new())
    }
    async fn next(&mut self, _this: Resource<HostTable>, _rows: u32) -> Answered<Option<Resource<HostBatch>>> {
        Ok(Ok(None))
    }
    fn drop(&mut self, this: Resource<HostTable>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}

impl BatchMethods for State {
    fn rows(&mut self, _this: Resource<HostBatch>) -> wasmtime::Result<u32> {
        Ok(0)
    }
    async fn columns(&mut self, _this: Resource<HostBatch>) -> Answered<Vec<Column>> {
        Ok(Ok(Vec::new()))
    }
    async fn column(&mut self, _this: Resource<HostBatch>, _name: String) -> Answered<Column> {
        Ok(Err(permanent("tables are not here yet")))
    }
    async fn tensor(&mut self, _this: Resource<HostBatch>, _columns: Vec<String>) -> Answered<Resource<HostTensor>> {
        Ok(Err(permanent("tables are not here yet")))
    }
    fn drop(&mut self, this: Resource<HostBatch>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}

impl WriterMethods for State {
    async fn create(&mut self, _file: String) -> Answered<Resource<HostWriter>> {
        Ok(Err(permanent("tables are not here yet")))
    }
    async fn write(&mut self, _this: Resource<HostWriter>, _columns: Vec<Column>) -> Answered<()> {
        Ok(Err(permanent("tables are not here yet")))
    }
    async fn finish(&mut self, _this: Resource<HostWriter>) -> Answered<()> {
        Ok(Err(permanent("tables are not here yet")))
    }
    fn drop(&mut self, this: Resource<HostWriter>) -> wasmtime::Result<()> {
        self.things.delete(this)?;
        Ok(())
    }
}
