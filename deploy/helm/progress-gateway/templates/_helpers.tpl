{{- define "gateway.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "gateway.fullname" -}}
{{- $name := include "gateway.name" . -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ include "gateway.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "gateway.test" -}}
app.kubernetes.io/name: "{{ include "gateway.name" . }}-test"
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "gateway.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "gateway.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary (include "gateway.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* Where the files of redis.tls come from; empty without them. */}}
{{- define "gateway.redisFiles" -}}
{{- with .Values.redis.tls.ca }}
{{- if .secretName }}
- secret: {name: {{ .secretName | quote }}, items: [{key: {{ .key | quote }}, path: ca.crt}]}
{{- else if .configMapName }}
- configMap: {name: {{ .configMapName | quote }}, items: [{key: {{ .key | quote }}, path: ca.crt}]}
{{- end }}
{{- end }}
{{- with .Values.redis.tls.client }}
{{- if .secretName }}
- secret:
    name: {{ .secretName | quote }}
    items: [{key: {{ .certificateKey | quote }}, path: tls.crt}, {key: {{ .keyKey | quote }}, path: tls.key}]
{{- end }}
{{- end }}
{{- end }}

{{/* What a replica reads from its environment: the data of its ConfigMap. */}}
{{- define "gateway.settings" -}}
GATEWAY_HOST: {{ .Values.gateway.host | quote }}
GATEWAY_PORT: {{ .Values.gateway.port | int | quote }}
GATEWAY_ADMIN_PORT: {{ .Values.gateway.adminPort | int | quote }}
GATEWAY_ORIGINS: {{ join "," .Values.gateway.origins | quote }}
{{- with .Values.gateway.hosts }}
GATEWAY_HOSTS: {{ join "," . | quote }}
{{- end }}
GATEWAY_MAX_CONNECTIONS: {{ .Values.gateway.maxConnections | int | quote }}
GATEWAY_PING_SECONDS: {{ .Values.gateway.pingSeconds | int | quote }}
GATEWAY_DRAIN_SECONDS: {{ .Values.gateway.drainSeconds | int | quote }}
GATEWAY_LAME_DUCK_SECONDS: {{ .Values.gateway.lameDuckSeconds | int | quote }}
GATEWAY_MAX_AGE_SECONDS: {{ .Values.gateway.maxAgeSeconds | int | quote }}
GATEWAY_REDIS_GRACE_SECONDS: {{ .Values.gateway.redisGraceSeconds | int | quote }}
GATEWAY_REDIS_WAIT_SECONDS: {{ .Values.gateway.redisWaitSeconds | int | quote }}
GATEWAY_LOG_FORMAT: {{ .Values.gateway.logFormat }}
{{- range $name, $value := .Values.gateway.extraSettings }}
{{ $name }}: {{ $value | quote }}
{{- end }}
REDIS_URL_FILE: {{ print "/etc/progress-gateway/" .Values.secret.redisUrlKey | quote }}
{{- with .Values.auth }}
{{- if .enabled }}
GATEWAY_AUTH: jwt
{{- if eq .kind "jwksUrl" }}
GATEWAY_JWT_JWKS_URL: {{ required "auth.jwksUrl must be set where auth.kind is jwksUrl" .jwksUrl | quote }}
{{- else if eq .kind "publicKeys" }}
GATEWAY_JWT_PUBLIC_KEYS_FILE: {{ print "/etc/progress-gateway/" $.Values.secret.tokenKeysKey | quote }}
{{- else }}
GATEWAY_JWT_SECRET_FILE: {{ print "/etc/progress-gateway/" $.Values.secret.tokenKeysKey | quote }}
{{- end }}
{{- with .audience }}
GATEWAY_JWT_AUDIENCE: {{ . | quote }}
{{- end }}
{{- with .issuer }}
GATEWAY_JWT_ISSUER: {{ . | quote }}
{{- end }}
{{- with .cookie }}
{{- if or (not $.Values.gateway.origins) (has "*" $.Values.gateway.origins) }}
{{- fail "auth.cookie needs gateway.origins with the exact origins of your pages" }}
{{- end }}
GATEWAY_JWT_COOKIE: {{ . | quote }}
{{- end }}
{{- with .anonymousProjects }}
GATEWAY_ANONYMOUS_PROJECTS: {{ join "," . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.publishing.enabled }}
GATEWAY_PUBLISH_KEYS_FILE: {{ print "/etc/progress-gateway/" .Values.secret.publishKeysKey | quote }}
{{- end }}
{{- if .Values.adminKeys.enabled }}
GATEWAY_ADMIN_KEYS_FILE: {{ print "/etc/progress-gateway/" .Values.secret.adminKeysKey | quote }}
{{- end }}
{{- end }}

{{/*
Other settings are another ConfigMap, so an old pod template keeps those that it was tried with: `kubectl rollout undo` brings
them back, and a replica never meets a setting that only a newer one knows.
*/}}
{{- define "gateway.settingsName" -}}
{{ include "gateway.fullname" . }}-{{ include "gateway.settings" . | sha256sum | trunc 10 }}
{{- end }}

{{/* Checks that a schema cannot express: values that are valid alone but not together. */}}
{{- define "gateway.check" -}}
{{- $window := int .Values.gateway.drainSeconds -}}
{{- /* The longest drain (docs/operating.md): twice the window, a quarter of it (at most 5 s) between, 5 s for the last closes. */ -}}
{{- $drain := add (mul 2 $window) (min 5 (div (add $window 3) 4)) 5 -}}
{{- $end := add (int .Values.gateway.lameDuckSeconds) $drain 5 -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $end) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d; gateway.lameDuckSeconds, the longest drain with gateway.drainSeconds and the end of the process need %d: set at least that, or pods are killed while they drain" (int .Values.terminationGracePeriodSeconds) $end) -}}
{{- end -}}
{{- if eq (int .Values.gateway.port) (int .Values.gateway.adminPort) -}}
{{- fail "gateway.port and gateway.adminPort are the same: choose two different ports" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is above autoscaling.maxReplicas: lower it, or raise maxReplicas" -}}
{{- end -}}
{{- if and .Values.redis.tls.ca.secretName .Values.redis.tls.ca.configMapName -}}
{{- fail "redis.tls.ca names a Secret and a ConfigMap: set one of secretName and configMapName" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled needs a Gateway: name it in httpRoute.parentRefs" -}}
{{- end -}}
{{- end }}
