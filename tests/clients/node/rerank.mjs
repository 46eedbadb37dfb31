// Asks a server by the npm clients of Cohere and of the AI SDK, and prints what they found as JSON.
import { createCohere } from "@ai-sdk/cohere";
import { rerank } from "ai";
import { CohereClient, CohereClientV2 } from "cohere-ai";

const { url, key, query, documents } = JSON.parse(process.argv[2]);
const found = {};

const v1 = new CohereClient({ environment: url, token: key });
found.v1 = await v1.rerank({ model: "rerank-english-v3.0", query, documents, topN: 2, returnDocuments: true });

const v2 = new CohereClientV2({ environment: url, token: key });
found.v2 = await v2.rerank({ model: "rerank-v3.5", query, documents });

const model = createCohere({ baseURL: `${url}/v2`, apiKey: key }).reranking("rerank-v3.5");
found.sdk = (await rerank({ model, query, documents, topN: 2 })).ranking;
const objects = documents.map((text, id) => ({ id, text }));
found.objects = (await rerank({ model, query, documents: objects, topN: 2 })).ranking;

console.log(JSON.stringify(found));
