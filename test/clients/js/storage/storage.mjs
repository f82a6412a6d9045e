// What an application does with Microsoft's storage clients for JavaScript, through
// both dialects. It reads BLOB, DFS, CONTAINER and STYLE beside what identity.mjs reads.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { BlobServiceClient, BlobBatchClient } from "@azure/storage-blob";
import { DataLakeServiceClient } from "@azure/storage-file-datalake";
import { credential } from "./identity.mjs";

const env = process.env;
const base = `lake.Lakehouse/Files/js-${env.STYLE}`;
const text = async (response) => Buffer.from(await new Response(response.readableStreamBody).arrayBuffer());
const refused = (code, promise) => assert.rejects(promise, (e) => (e.code ?? e.details?.errorCode) === code, `want ${code}`);

async function blobs() {
  const service = new BlobServiceClient(env.BLOB, credential);
  const container = service.getContainerClient(env.CONTAINER);
  assert.ok(await container.exists());

  const content = randomBytes(9 << 20);
  const big = container.getBlockBlobClient(`${base}/big ä+&%41.bin`);
  await big.uploadData(content, {
    blockSize: 1 << 20, concurrency: 4, maxSingleShotSize: 1 << 20,
    blobHTTPHeaders: { blobContentType: "text/x" }, metadata: { owner: "x" },
  });
  assert.ok(content.equals(await big.downloadToBuffer(0, undefined, { blockSize: 1 << 20 })));
  assert.ok(content.subarray(5, 25).equals(await text(await big.download(5, 20))));
  const properties = await big.getProperties();
  assert.equal(properties.contentLength, content.length);
  assert.equal(properties.contentType, "text/x");
  assert.equal(properties.metadata.owner, "x");

  // A copy, a commit that must not overwrite, and an append.
  const copy = container.getBlockBlobClient(`${base}/copy`);
  const poller = await copy.beginCopyFromURL(big.url);
  assert.equal((await poller.pollUntilDone()).copyStatus, "success");
  assert.equal((await copy.getProperties()).contentLength, content.length);
  const commit = container.getBlockBlobClient(`${base}/_delta_log/00000000000000000000.json`);
  await commit.upload("{}", 2, { conditions: { ifNoneMatch: "*" } });
  await refused("BlobAlreadyExists", commit.upload("{}", 2, { conditions: { ifNoneMatch: "*" } }));
  const log = container.getAppendBlobClient(`${base}/log`);
  await log.create();
  await log.appendBlock("one,", 4);
  await log.appendBlock("two", 3, { conditions: { appendPosition: 4 } });
  await refused("AppendPositionConditionNotMet", log.appendBlock("x", 1, { conditions: { appendPosition: 4 } }));
  assert.equal((await text(await log.download())).toString(), "one,two");

  // A lease.
  const lease = copy.getBlobLeaseClient();
  await lease.acquireLease(15);
  await refused("LeaseIdMissing", copy.delete());
  await copy.setMetadata({ a: "b" }, { conditions: { leaseId: lease.leaseId } });
  await lease.releaseLease();

  // Listings, in pages.
  const names = [];
  for await (const page of container.listBlobsFlat({ prefix: base + "/" }).byPage({ maxPageSize: 2 })) {
    names.push(...page.segment.blobItems.filter((b) => b.properties.contentLength > 0).map((b) => b.name));
  }
  assert.deepEqual(names, ["/_delta_log/00000000000000000000.json", "/big ä+&%41.bin", "/copy", "/log"].map((n) => base + n));
  const level = [];
  for await (const item of container.listBlobsByHierarchy("/", { prefix: base + "/" })) level.push(`${item.kind} ${item.name}`);
  assert.deepEqual(level, [`prefix ${base}/_delta_log/`, ...names.slice(1).map((n) => `blob ${n}`)]);

  const batch = new BlobBatchClient(service.url, credential);
  const answers = await batch.deleteBlobs([copy.url, log.url], credential);
  assert.equal(answers.subResponsesSucceededCount, 2);
  assert.equal(await copy.exists(), false);
  const again = await batch.deleteBlobs([copy.url, big.url], credential);
  assert.equal(again.subResponsesFailedCount, 1);
  assert.equal(again.subResponses.find((r) => r.errorCode)?.errorCode, "BlobNotFound");
  await refused("ContainerAlreadyExists", container.create());
}

async function paths() {
  const service = new DataLakeServiceClient(env.DFS, credential);
  const fs = service.getFileSystemClient(env.CONTAINER);
  const dir = fs.getDirectoryClient(`${base}/dir`);
  await dir.create();
  await refused("PathAlreadyExists", dir.create({ conditions: { ifNoneMatch: "*" } }));
  const content = randomBytes(3 << 20);
  const file = dir.getFileClient("ä b.bin");
  await file.upload(content, { chunkSize: 1 << 20, pathHttpHeaders: { contentType: "text/y" } });
  assert.ok(content.equals(await file.readToBuffer()));
  await file.setMetadata({ k: "v" });
  assert.equal((await file.getProperties()).metadata.k, "v");
  assert.equal((await file.getAccessControl()).owner, "$superuser");
  await file.move(`${base}/dir/moved.bin`);
  await dir.move(`${base}/dir2`);
  const moved = fs.getFileClient(`${base}/dir2/moved.bin`);
  assert.ok(content.equals(await moved.readToBuffer()));
  assert.equal(await file.exists(), false);
  const listed = [];
  for await (const p of fs.listPaths({ path: base, recursive: true })) listed.push(p.name);
  assert.ok(listed.includes(`${base}/dir2/moved.bin`), listed.join());
  await fs.getDirectoryClient(`${base}/dir2`).delete(true);
  assert.equal(await moved.exists(), false);
}

// The clients lose the account from a path-style address when they rename.
for (const part of env.DFS ? [blobs, paths] : [blobs]) {
  await part().catch((e) => {
    console.error(e.request?.method, e.request?.url);
    throw e;
  });
}
console.log("passed");
