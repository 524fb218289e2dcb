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

{{/* Checks that a schema cannot express: values that are valid alone but not together. */}}
{{- define "gateway.check" -}}
{{- $window := int .Values.gateway.drainSeconds -}}
{{- /* The longest drain (docs/operating.md): twice the window, a quarter of it (at most 5 s) between, 5 s for the last closes. */ -}}
{{- $drain := add (mul 2 $window) (min 5 (div (add $window 3) 4)) 5 -}}
{{- $end := add (int .Values.preStopSeconds) (int .Values.gateway.lameDuckSeconds) $drain 5 -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $end) -}}
{{- fail (printf "terminationGracePeriodSeconds is %d; preStop, gateway.lameDuckSeconds, the longest drain with gateway.drainSeconds and the end of the process need %d: set at least that, or pods are killed while they drain" (int .Values.terminationGracePeriodSeconds) $end) -}}
{{- end -}}
{{- if eq (int .Values.gateway.port) (int .Values.gateway.adminPort) -}}
{{- fail "gateway.port and gateway.adminPort are the same: choose two different ports" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling.minReplicas is above autoscaling.maxReplicas: lower it, or raise maxReplicas" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled needs a Gateway: name it in httpRoute.parentRefs" -}}
{{- end -}}
{{- end }}
