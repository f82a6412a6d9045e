// A folder of files, carried with Microsoft's storage clients for JavaScript:
//
//   node tree.mjs blob|path FOLDER up DIR | list | read NAME OFFSET COUNT | move FROM TO | down DIR | remove
//
// It reads BLOB, DFS and CONTAINER beside what identity.mjs reads.
import assert from "node:assert/strict";
import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { BlobServiceClient } from "@azure/storage-blob";
import { DataLakeServiceClient } from "@azure/storage-file-datalake";
import { credential } from "./identity.mjs";

const [kind, folder, command, ...args] = process.argv.slice(2);
const env = process.env;

// each calls do with every name, for sixteen at a time.
async function each(names, act) {
  const left = [...names];
  const worker = async () => {
    for (let name = left.pop(); name !== undefined; name = left.pop()) await act(name);
  };
  await Promise.all(Array.from({ length: 16 }, worker));
}

async function bytes(stream) {
  process.stdout.write(Buffer.from(await new Response(stream).arrayBuffer()));
}

function throughBlobs() {
  const container = new BlobServiceClient(env.BLOB, credential).getContainerClient(env.CONTAINER);
  const at = (name) => container.getBlockBlobClient(`${folder}/${name}`);
  return {
    upload: (name, file) => at(name).uploadFile(file, { blockSize: 1 << 20, maxSingleShotSize: 1 << 20 }),
    download: (name, file) => at(name).downloadToFile(file),
    async read(name, offset, count) {
      await bytes((await at(name).download(offset, count)).readableStreamBody);
    },
    async *list() {
      for await (const page of container.listBlobsFlat({ prefix: folder + "/", includeMetadata: true }).byPage({ maxPageSize: 300 })) {
        for (const b of page.segment.blobItems) {
          if (!b.metadata?.hdi_isfolder) yield [b.name.slice(folder.length + 1), b.properties.contentLength];
        }
      }
    },
    async move(from, to) {
      const names = [];
      for await (const [name] of this.list()) if (name.startsWith(from + "/")) names.push(name);
      await each(names, async (name) => {
        const poller = await at(to + name.slice(from.length)).beginCopyFromURL(at(name).url);
        assert.equal((await poller.pollUntilDone()).copyStatus, "success");
        await at(name).delete();
      });
    },
    async remove() {
      const names = [];
      for await (const [name] of this.list()) names.push(name);
      await each(names, (name) => at(name).delete());
    },
  };
}

function throughPaths() {
  const fs = new DataLakeServiceClient(env.DFS, credential).getFileSystemClient(env.CONTAINER);
  const at = (name) => fs.getFileClient(`${folder}/${name}`);
  return {
    upload: (name, file) => at(name).uploadFile(file, { chunkSize: 1 << 20, singleUploadThreshold: 1 << 20 }),
    download: (name, file) => at(name).readToFile(file),
    async read(name, offset, count) {
      await bytes((await at(name).read(offset, count)).readableStreamBody);
    },
    async *list() {
      for await (const page of fs.listPaths({ path: path.posix.dirname(folder), recursive: true }).byPage({ maxPageSize: 300 })) {
        for (const p of page.pathItems ?? []) {
          if (!p.isDirectory && p.name.startsWith(folder + "/")) yield [p.name.slice(folder.length + 1), p.contentLength];
        }
      }
    },
    async move(from, to) {
      await fs.getDirectoryClient(`${folder}/${path.posix.dirname(to)}`).create();
      await fs.getDirectoryClient(`${folder}/${from}`).move(`${folder}/${to}`);
    },
    remove: () => fs.getDirectoryClient(folder).delete(true),
  };
}

const client = { blob: throughBlobs, path: throughPaths }[kind]();
switch (command) {
  case "up": {
    const files = (await readdir(args[0], { recursive: true, withFileTypes: true })).filter((d) => d.isFile());
    const names = files.map((d) => path.relative(args[0], path.join(d.parentPath ?? d.path, d.name)));
    await each(names, (name) => client.upload(name, path.join(args[0], name)));
    break;
  }
  case "list": {
    const sizes = {};
    for await (const [name, size] of client.list()) sizes[name] = size;
    console.log(JSON.stringify(sizes));
    break;
  }
  case "read":
    await client.read(args[0], Number(args[1]), Number(args[2]));
    break;
  case "down": {
    const names = [];
    for await (const [name] of client.list()) names.push(name);
    await each(names, async (name) => {
      const file = path.join(args[0], name);
      await mkdir(path.dirname(file), { recursive: true });
      await client.download(name, file);
    });
    break;
  }
  default:
    await client[command](...args);
}
