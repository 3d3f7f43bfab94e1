// Obeys the tests: reads a question of JSON a line from descriptor 3, and writes an answer
// to descriptor 4.
import fs from "node:fs";
import readline from "node:readline";
import { createRequire } from "node:module";
import * as sdk from "matrix-js-sdk";
import { decodeRecoveryKey } from "matrix-js-sdk/lib/crypto-api/recovery-key.js";

const sdkPackage = createRequire(import.meta.url)("matrix-js-sdk/package.json");
for (const level of ["log", "info", "debug", "warn", "error", "trace"]) {
    console[level] = (...text) => process.stderr.write(text.map(String).join(" ") + "\n");
}
const answers = fs.createWriteStream(null, { fd: 4 });
const say = (answer) => answers.write(JSON.stringify(answer) + "\n");

const [, , baseUrl, user, password] = process.argv;
const login = await sdk.createClient({ baseUrl }).loginRequest({
    type: "m.login.password",
    identifier: { type: "m.id.user", user },
    password,
});
const secrets = { key: null }; // of the account's secret storage
const client = sdk.createClient({
    baseUrl,
    userId: login.user_id,
    accessToken: login.access_token,
    deviceId: login.device_id,
    cryptoCallbacks: {
        getSecretStorageKey: async ({ keys }) => secrets.key && [Object.keys(keys)[0], secrets.key],
        cacheSecretStorageKey: (id, info, key) => { secrets.key = key; },
    },
});
await client.initRustCrypto({ useIndexedDB: false });
const crypto = client.getCrypto();
const heard = [];
client.on("event", async (event) => {
    await client.decryptEventIfNeeded(event);
    if (event.getType() === "m.room.message" && event.getSender() !== login.user_id) {
        heard.push({ room: event.getRoomId(), body: event.getContent().body });
    }
});
await client.startClient({ initialSyncLimit: 20 });
await new Promise((ready) => client.once("sync", ready));

const authorize = (request) =>
    request({ type: "m.login.password", identifier: { type: "m.id.user", user: login.user_id }, password });

const operations = {
    send: async (room, type, content) => (await client.sendEvent(room, type, content)).event_id,
    put: async (room, type, key, content) => (await client.sendStateEvent(room, type, content, key)).event_id,
    get: async (room, id) => {
        const event = client.getEventMapper()(await client.fetchRoomEvent(room, id));
        await client.decryptEventIfNeeded(event);
        if (event.isDecryptionFailure()) throw new Error("can't decrypt it: " + event.getContent().body);
        return { type: event.getType(), content: event.getContent() };
    },
    state: async (room, type, key) => client.getStateEvent(room, type, key),
    heard: async () => heard,
    // Cross-signing, secret storage and a key backup. Returns the recovery key.
    setUp: async () => {
        const recovery = await crypto.createRecoveryKeyFromPassphrase();
        secrets.key = recovery.privateKey;
        await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: authorize, setupNewCrossSigning: true });
        await crypto.bootstrapSecretStorage({
            createSecretStorageKey: async () => recovery, setupNewSecretStorage: true, setupNewKeyBackup: true,
        });
        await crypto.checkKeyBackupAndEnable();
        return recovery.encodedPrivateKey;
    },
    // Takes over what another device has set up. Returns how many keys the backup had.
    takeOver: async (recoveryKey) => {
        secrets.key = decodeRecoveryKey(recoveryKey);
        await crypto.bootstrapCrossSigning({ authUploadDeviceSigningKeys: authorize });
        await crypto.loadSessionBackupPrivateKeyFromSecretStorage();
        await crypto.checkKeyBackupAndEnable();
        return (await crypto.restoreKeyBackup()).imported;
    },
    resetBackup: async () => { await crypto.resetKeyBackup(); return null; },
    onlySigned: async (only) => {
        crypto.setDeviceIsolationMode(only ? new (await import("matrix-js-sdk/lib/crypto-api/index.js")).OnlySignedDevicesIsolationMode()
            : new (await import("matrix-js-sdk/lib/crypto-api/index.js")).AllDevicesIsolationMode(false));
        return null;
    },
};

say({ node: process.version, "matrix-js-sdk": sdkPackage.version, crypto: crypto.getVersion() });
for await (const line of readline.createInterface({ input: fs.createReadStream(null, { fd: 3 }) })) {
    const [operation, ...args] = JSON.parse(line);
    try {
        say({ returned: (await operations[operation](...args)) ?? null });
    } catch (e) {
        say({ raised: String(e?.stack ?? e) });
    }
}
process.exit(0);
